// The page of `s3local review` and `s3local label`. Whatever a row holds is text: nothing here makes HTML from it.
"use strict";

const MOST_KEYS = 10; // labels that have a digit of their own; more of them are picked by name
const AHEAD = 40; // rows that are fetched before they are needed
const BEHIND = 6;
const QUEUE_ROWS = 7;
const POLL_MS = 4000;
const IDLE_MS = 60000; // a longer pause is no work
const GOALS = [5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 500, 750, 1000];
const LONG_CHARACTERS = 700;

const SAID = { keep: "Kept", drop: "Dropped", relabel: "Relabelled", edit: "Edited", label: "Labelled", skip: "No label" };
const STATE_NAMES = {
  open: "no decision yet", decided: "any decision", keep: "kept", drop: "dropped", relabel: "relabelled", edit: "edited",
  label: "labelled", skip: "no label fits", all: "all rows",
};

const $ = (id) => document.getElementById(id);
let session = null;
let order = [];
let position = 0;
let cache = new Map(); // place -> row
let counts = null;
let suggestions = new Map(); // place -> {label, probability}
let undoable = []; // places of this window's decisions, the last one at the end
let times = []; // when this window's decisions were made
let work = Promise.resolve(); // one thing after another, so that fast keys are not lost
let editing = false;

// Elements

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") element.className = value;
    else if (name === "click") element.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

// Characters that cannot be seen, or that turn the direction of what follows, are shown by name.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;
const NAMES = { 0x200e: "LRM", 0x200f: "RLM", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI" };
const JOINERS = new Set([0x200c, 0x200d]); // parts of words and of emoji

function visible(text) {
  const parts = [];
  let plain = "";
  for (const character of text) {
    const code = character.codePointAt(0);
    if (!UNSEEN.test(character) || JOINERS.has(code)) { plain += character; continue; }
    if (plain) parts.push(plain);
    plain = "";
    const name = NAMES[code] || (code < 0x20 ? String.fromCodePoint(0x2400 + code) : "U+" + code.toString(16).toUpperCase().padStart(4, "0"));
    parts.push(make("span", { class: "control" }, name));
  }
  if (plain) parts.push(plain);
  return parts;
}

function excerpt(text, most) {
  const line = text.slice(0, 4 * most).replace(/\s+/g, " ").trim();
  return line.length > most ? line.slice(0, most - 1) + "…" : line;
}

// Talking to the server

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (problem) {
    banner("The server does not answer. Every decision that this page counts is on the disk. Start s3local again, and open the address that it prints.");
    throw problem;
  }
  if (answer.status === 409) return { ...(await answer.json()), outdated: true };
  if (!answer.ok) {
    const told = answer.headers.get("content-type").startsWith("application/json") ? (await answer.json()).error : await answer.text();
    banner(told);
    throw new Error(told);
  }
  banner(null);
  return answer.json();
}

function banner(text) {
  $("banner").hidden = !text;
  $("banner").textContent = text || "";
}

function inTurn(action) {
  work = work.then(action).catch((problem) => console.info(problem.message));
  return work;
}

function take(answer) {
  for (const row of answer.rows) cache.set(row.place, row);
  counts = answer.counts;
}

async function fetchAround() {
  const wanted = order.slice(Math.max(0, position - BEHIND), position + AHEAD).filter((place) => !cache.has(place));
  if (!wanted.length) return;
  const urgent = !cache.has(order[position]);
  if (!urgent && wanted.length < AHEAD / 2) return;
  const answer = await ask("api/rows?places=" + wanted.join(","));
  for (const row of answer.rows) cache.set(row.place, row);
}

async function poll() {
  if (document.hidden || counts === null) return;
  const answer = await ask("api/changes?since=" + counts.version);
  const before = counts.version;
  take(answer);
  if (counts.version !== before && !editing) render();
}

// Filters

function query() {
  const chosen = (id) => [...$(id).querySelectorAll("input:checked")].map((box) => box.value).join(",");
  return new URLSearchParams({
    state: $("state").value, label: $("label").value, groups: chosen("groups"), reasons: chosen("reasons"),
    low: $("low").value || "0", high: $("high").value || "1", words: $("words").value, sort: $("sort").value,
  });
}

async function refilter() {
  const answer = await ask("api/order?" + query());
  order = answer.order;
  position = 0;
  await show();
}

async function clearFilters() {
  $("filters").reset();
  await refilter();
}

function checkboxes(fieldset, names) {
  fieldset.hidden = names.length < 2;
  names.forEach((name, number) => fieldset.append(make("label", {}, make("input", { type: "checkbox", value: String(number) }), make("span", {}, name))));
}

// The row

const current = () => cache.get(order[position]);

async function show() {
  editing = false;
  if (order.length) await fetchAround();
  render();
  window.scrollTo(0, 0);
}

function render() {
  const row = order.length ? current() : undefined;
  $("card").hidden = !row;
  $("done").hidden = Boolean(row);
  $("bar").hidden = !row;
  $("editor").hidden = true;
  $("texts").hidden = false;
  if (row) renderRow(row); else renderDone();
  renderHeader();
  renderQueue();
}

function renderRow(row) {
  $("where").textContent = `${(position + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
  const marks = [];
  if (row.state !== "open") marks.push(make("span", { class: "mark " + row.state }, decisionInWords(row)));
  if (session.mode === "review" && row.label !== null && row.probability !== null) {
    const doubtful = row.probability < 0.6;
    marks.push(make("span", { class: "mark" + (doubtful ? " doubt" : "") }, `${row.was}: ${percent(row.probability)}`));
  } else if (session.mode === "review" && row.was !== null) marks.push(make("span", { class: "mark" }, row.was));
  if (row.group) marks.push(make("span", { class: "mark" }, row.group));
  marks.push(make("span", { class: "mark" }, row.reason));
  if (row.edited.length) marks.push(make("span", { class: "mark edit" }, "text edited"));
  fill($("marks"), ...marks);
  fill($("texts"), ...session.fields.flatMap((name) => {
    const text = row.fields[name];
    const source = session.fields.length > 1 && name !== session.editable && session.mode === "review";
    const shape = "text" + (source ? " source" : "") + (text.length > LONG_CHARACTERS ? " long" : "");
    const content = row.answer !== undefined && name === session.fields[0] ? withAnswer(text, row) : visible(text);
    return [session.fields.length > 1 && make("div", { class: "field" }, name), make("div", { class: shape, dir: "auto" }, ...content)].filter(Boolean);
  }));
  renderStory(row);
  renderLabels(row);
  renderActions(row);
}

function withAnswer(text, row) {
  const answer = Array.isArray(row.answer) ? row.answer[0] : row.answer;
  const start = Array.isArray(row.answer_start) ? row.answer_start[0] : row.answer_start;
  const characters = [...text]; // the start counts characters, not the halves of those beyond 16 bits
  const end = start + [...answer].length;
  const part = (from, to) => visible(characters.slice(from, to).join(""));
  return [...part(0, start), make("mark", {}, ...part(start, end)), ...part(end)];
}

function decisionInWords(row) {
  if (row.state === "relabel" || row.state === "label") return `${SAID[row.state].toLowerCase()}: ${row.label}`;
  return STATE_NAMES[row.state];
}

function renderStory(row) {
  const story = [];
  if (row.asked && row.asked !== row.was) story.push(make("p", {}, `The teacher was asked for ${row.asked}; the judges think ${row.was}.`));
  if (row.detail) story.push(make("p", {}, "Dropped because of ", make("span", {}, ...visible(row.detail))));
  if (row.error) {
    const wrong = row.error.predicted !== row.error.label;
    const how = row.error.label === null || row.error.label === undefined ? "" : wrong
      ? `, which is ${row.error.label} and which the student took for ${row.error.predicted}`
      : `, which is ${row.error.label} and which the student was unsure of`;
    story.push(make("p", {}, `Written like this real row${how}:`), make("blockquote", { dir: "auto" }, ...visible(Object.values(row.error.fields).join("\n"))));
  } else if (row.rationales && row.rationales.length) {
    story.push(make("p", {}, "Written for these reasons: ", ...visible(row.rationales.join("; "))));
  }
  if (row.source) story.push(make("p", {}, row.source));
  fill($("story"), ...story);
}

function percent(share) {
  return share > 0.995 ? ">99 %" : share < 0.005 ? "<1 %" : Math.round(100 * share) + " %";
}

function renderLabels(row) {
  const suggested = suggestions.get(row.place);
  const buttons = session.labels.length > MOST_KEYS
    ? [make("button", { type: "button", "aria-pressed": String(row.label !== null), "aria-keyshortcuts": "l", click: openPicker },
        make("kbd", {}, "L"), make("span", { class: "word" }, row.label === null ? "choose a label" : row.label))]
    : session.labels.map((label, number) => {
        const chance = row.probabilities ? row.probabilities[label.name] : suggested && suggested.label === label.name ? suggested.probability : null;
        const button = make("button", { type: "button", title: label.description, "aria-pressed": String(row.label === label.name),
          "aria-keyshortcuts": digit(number), click: () => inTurn(() => choose(number)) },
          make("kbd", {}, digit(number)), make("span", { class: "word" }, label.name),
          figure(number, chance, suggested && suggested.label === label.name));
        if (chance !== null) button.style.setProperty("--chance", (100 * chance).toFixed(1) + "%");
        return button;
      });
  if (suggested && session.labels.length > MOST_KEYS) buttons.push(make("span", { class: "mark" }, `the model says ${suggested.label}, ${percent(suggested.probability)}`));
  fill($("labels"), ...buttons);
  $("labels").hidden = !session.labels.length;
}

function figure(number, chance, suggested) {
  if (chance !== null) return make("span", { class: "figure" }, (suggested ? "model: " : "") + percent(chance));
  if (session.mode !== "label") return null;
  return make("span", { class: "figure" }, String((session.told[session.labels[number].name] || 0) + counts.labels[number]));
}

function renderActions(row) {
  const button = (key, text, shape, action) =>
    make("button", { type: "button", class: shape, "aria-keyshortcuts": key.toLowerCase(), click: action }, text + " ", make("kbd", {}, key));
  const act = (action) => () => inTurn(() => decide(action));
  const actions = session.mode === "review"
    ? [button("K", "Keep", "keep", act("keep")), button("D", "Drop", "drop", act("drop")), session.editable && button("E", "Edit", "", () => inTurn(openEditor))]
    : [button("X", "No label", "drop", act("skip")), session.suggests && button("H", "Hint", "", () => inTurn(hint))];
  actions.push(button("U", "Undo", "", () => inTurn(undo)));
  actions.push(button("←", "Back", "", () => inTurn(() => go(-1))), button("→", "Next", "", () => inTurn(() => go(1))));
  fill($("actions"), ...actions.filter(Boolean));
}

function renderQueue() {
  $("around").hidden = order.length < 2;
  const from = Math.max(0, Math.min(position - 1, order.length - QUEUE_ROWS));
  fill($("queue"), ...order.slice(from, from + QUEUE_ROWS).map((place, number) => {
    const row = cache.get(place);
    const here = from + number === position;
    const text = row ? excerpt(row.fields[session.editable || session.fields[0]], 160) : "…";
    const head = !row ? "" : row.state === "open" ? row.label || row.reason : decisionInWords(row);
    return make("li", {}, make("button", { type: "button", "aria-current": here ? "true" : null, click: () => inTurn(() => goTo(from + number)) },
      make("b", {}, head), make("span", {}, text)));
  }));
}

function renderHeader() {
  const states = counts.states;
  const decided = session.rows - states.open;
  const parts = session.mode === "review"
    ? [`${states.keep} kept`, `${states.drop} dropped`, `${states.relabel} relabelled`, `${states.edit} edited`]
    : [`${states.label} labelled`, `${states.skip} without a label`];
  $("counts").textContent = `${decided.toLocaleString("en")} of ${session.rows.toLocaleString("en")} rows decided: ${parts.join(", ")}`;
  const done = session.mode === "review" ? decided : states.label;
  const goal = GOALS.find((number) => number > done) || Math.ceil((done + 1) / 1000) * 1000;
  const last = GOALS.filter((number) => number <= done).pop() || 0;
  $("milestone").value = (done - last) / (goal - last);
  const left = goal - done;
  const speed = perMinute();
  $("pace").textContent = speed === null ? `${left} more to ${goal}` : `${speed.toFixed(0)} a minute, ${left} more to ${goal}: ${duration(left / speed)}`;
}

function perMinute() {
  if (times.length < 4) return null;
  const recent = times.slice(-40);
  let milliseconds = 0;
  for (let number = 1; number < recent.length; number += 1) milliseconds += Math.min(IDLE_MS, recent[number] - recent[number - 1]);
  return milliseconds > 0 ? Math.max(0.5, (60000 * (recent.length - 1)) / milliseconds) : null;
}

function duration(minutes) {
  return minutes < 1 ? "less than a minute" : minutes < 90 ? `about ${Math.round(minutes)} min` : `about ${Math.round(minutes / 60)} h`;
}

function renderDone() {
  const decided = session.rows - counts.states.open;
  $("done-text").textContent = decided === session.rows ? "Every row has a decision." : "No row fits the filters, or all that fit were read.";
  $("done-next").textContent = session.mode === "review" ? "Use your decisions: train again from this run." : "Your labels are in the task's dev file. Use them:";
  $("command").textContent = session.command;
}

// Decisions

function toast(text) { $("toast").textContent = text; }

async function decide(action, more = {}) {
  const row = current();
  if (!row) return;
  const answer = await ask("api/decide", { place: row.place, seen: row.seen, action, ...more });
  take(answer);
  if (answer.outdated) {
    const there = current();
    render();
    toast(`Another window decided on this row: ${decisionInWords(there)}. Decide again to replace that.`);
    return;
  }
  undoable.push(row.place);
  times.push(Date.now());
  const after = cache.get(row.place);
  const done = session.mode === "review" ? session.rows - counts.states.open : counts.states.label;
  const goal = GOALS.includes(done) && row.state === "open" ? ` ${done} done.` : "";
  const name = after.state === "relabel" || after.state === "label" ? `: ${after.label}` : "";
  await go(1, true);
  toast(`${SAID[after.state]}${name}.${goal} U undoes it.`);
}

async function choose(number) {
  const row = current();
  if (!row || number >= session.labels.length) return;
  const name = session.labels[number].name;
  if (session.mode === "label") await decide("label", { label: name });
  else await decide(row.was === name && !row.edited.length ? "keep" : "relabel", { label: name });
}

async function undo() {
  const place = undoable.length ? undoable[undoable.length - 1] : null;
  const row = place === null ? current() : cache.get(place);
  if (!row || (place === null && row.state === "open")) { toast("Nothing to undo here."); return; }
  const answer = await ask("api/decide", { place: row.place, seen: row.seen, action: "undo" });
  take(answer);
  undoable.pop();
  times.pop();
  const at = order.indexOf(row.place);
  if (at >= 0) position = at;
  await show();
  toast(answer.outdated ? "Another window decided on that row in the meantime; it stays." : "Undone.");
}

async function go(step, afterDecision = false) {
  await goTo(position + step, afterDecision);
}

async function goTo(place, afterDecision = false) {
  if (place < 0) { toast("This is the first row."); return; }
  if (place >= order.length) {
    if (!afterDecision || $("state").value !== "open") { toast("This is the last row."); return; }
    await refilter();
    return;
  }
  position = place;
  await show();
  toast("");
  fetchAround().then(renderQueue).catch(() => {});
}

async function hint() {
  const row = current();
  if (!row || !session.suggests) return;
  suggestions.set(row.place, await ask("api/suggest", { place: row.place }));
  render();
}

function openEditor() {
  const row = current();
  if (!row || !session.editable || session.mode !== "review") return;
  editing = true;
  $("draft-name").textContent = session.editable;
  $("draft").value = row.fields[session.editable];
  $("editor").hidden = false;
  $("texts").hidden = session.fields.length === 1;
  $("draft").focus();
}

async function saveEdit() {
  editing = false;
  const row = current();
  const text = $("draft").value;
  if (text === row.fields[session.editable].replace(/\r\n?/g, "\n")) { render(); toast("The text is as it was."); return; }
  editing = true;
  await decide("edit", { fields: { [session.editable]: text } });
}

function openPicker() {
  $("picker-words").value = "";
  fillPicker();
  $("picker").showModal();
  $("picker-words").focus();
}

function fillPicker() {
  const words = $("picker-words").value.toLowerCase();
  const found = session.labels.map((label, number) => ({ label, number })).filter(({ label }) => label.name.toLowerCase().includes(words));
  fill($("picker-list"), ...found.map(({ label, number }) => make("button", { type: "button", title: label.description,
    click: () => { $("picker").close(); inTurn(() => choose(number)); } }, label.name)));
}

// Keys

const digit = (number) => String((number + 1) % 10);

function keysInWords() {
  const labels = session.labels.length > MOST_KEYS ? [["L", "choose a label by its name"]]
    : session.labels.length ? [[`1 to ${digit(session.labels.length - 1)}`, session.mode === "label" ? "this label" : "this label is right, or: keep, if the row has it"]] : [];
  const acts = session.mode === "review"
    ? [["K", "keep: text and label are right"], ["D", "drop: not worth learning"], ["E", "edit the text"]]
    : [["X", "no label fits, or the text is of no use"], ...(session.suggests ? [["H", "hint: show what the model thinks, for this row"]] : [])];
  return [...acts, ...labels, ["U", "undo the last decision"], ["← →", "the row before, the next row"], ["/", "search"], ["F", "filters"], ["?", "this help"]];
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") { event.target.blur(); if (editing) { editing = false; render(); } }
    return;
  }
  const digits = "1234567890".indexOf(event.key);
  const keys = {
    k: () => session.mode === "review" && inTurn(() => decide("keep")),
    d: () => session.mode === "review" && inTurn(() => decide("drop")),
    x: () => session.mode === "label" && inTurn(() => decide("skip")),
    e: () => inTurn(openEditor),
    h: () => inTurn(hint),
    u: () => inTurn(undo),
    l: () => session.labels.length > MOST_KEYS && current() && openPicker(),
    ArrowRight: () => inTurn(() => go(1)),
    ArrowLeft: () => inTurn(() => go(-1)),
    "/": () => { $("side").open = true; $("words").focus(); },
    f: () => { $("side").open = true; $("state").focus(); },
    "?": () => $("help").showModal(),
  };
  const action = digits >= 0 && session.labels.length <= MOST_KEYS
    ? () => inTurn(() => choose(digits)) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// Beginning

function options(select, entries) {
  fill(select, ...entries.map(([value, text]) => make("option", { value }, text)));
}

async function begin() {
  session = await ask("api/session");
  counts = session.counts;
  const review = session.mode === "review";
  document.title = `${review ? "Review" : "Label"} ${session.title}`;
  $("title").textContent = `${review ? "Review" : "Label"}: ${session.title}`;
  const decisions = review ? ["keep", "drop", "relabel", "edit"] : ["label", "skip"];
  options($("state"), ["open", "decided", ...decisions, "all"].map((name) => [name, STATE_NAMES[name]]));
  options($("label"), [["", "any"], ...session.labels.map((label, number) => [String(number), label.name])]);
  options($("sort"), [["urgent", review ? "most doubtful first" : "most useful first"], ["place", "as in the file"]]);
  $("label").parentElement.hidden = !session.labels.length;
  $("chances").hidden = !review;
  checkboxes($("groups"), session.groups);
  checkboxes($("reasons"), session.reasons);
  fill($("keys"), ...keysInWords().flatMap(([key, meaning]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, meaning)]));
  fill($("descriptions"), ...session.labels.flatMap((label) => [make("dt", {}, label.name), make("dd", {}, label.description)]));
  $("labels-title").hidden = !session.labels.length;
  fill($("help-command"), review ? "When you have read enough, train again with your decisions: " : "Your labels are written to the task's dev file at once. Use them: ", make("code", {}, session.command));
  const wide = window.matchMedia("(min-width: 60.01rem)");
  $("side").open = wide.matches;
  wide.addEventListener("change", () => { $("side").open = wide.matches; });
  let waiting = 0;
  $("filters").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => inTurn(refilter), event.target.type === "search" || event.target.type === "number" ? 250 : 0);
  });
  $("filters").addEventListener("submit", (event) => { event.preventDefault(); document.activeElement.blur(); });
  $("clear").addEventListener("click", () => inTurn(clearFilters));
  $("done-clear").addEventListener("click", () => inTurn(clearFilters));
  $("editor").addEventListener("submit", (event) => { event.preventDefault(); inTurn(saveEdit); });
  $("cancel").addEventListener("click", () => { editing = false; render(); });
  $("draft").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); inTurn(saveEdit); }
  });
  $("picker-words").addEventListener("input", fillPicker);
  $("picker-words").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); const first = $("picker-list").querySelector("button"); if (first) first.click(); }
  });
  $("help-button").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", onKey);
  setInterval(() => inTurn(poll), POLL_MS);
  await refilter();
  document.body.dataset.ready = "true";
}

inTurn(begin);
