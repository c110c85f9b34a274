
"use strict";
// Texts reach the page through textContent alone, so that nothing in them can act.

const element = (tag, style, text) => {
  const made = document.createElement(tag);
  if (style) made.className = style;
  if (text !== undefined) made.textContent = text;
  return made;
};
const tag = (text, kind) => {
  const made = element("span", kind ? `tag ${kind}` : "tag");
  made.append(element("bdi", "", text));
  return made;
};

// Tips of charts: the titles that a browser shows late, and not at all after a tap.
const tip = document.getElementById("tip");
const tips = new WeakMap();
document.addEventListener("pointerover", (event) => {
  const shape = event.target;
  if (!(shape instanceof SVGElement)) { tip.hidden = true; return; }
  const title = shape.querySelector(":scope > title");
  if (title) { tips.set(shape, title.textContent); title.remove(); }
  if (!tips.has(shape)) { tip.hidden = true; return; }
  tip.textContent = tips.get(shape);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const room = event.clientX + 14 + box.width < innerWidth;
  tip.style.left = `${Math.max(4, room ? event.clientX + 14 : event.clientX - box.width - 14)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 4))}px`;
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
document.addEventListener("scroll", () => { tip.hidden = true; }, true);

// On paper, everything is open.
addEventListener("beforeprint", () => { for (const item of document.querySelectorAll("details")) item.open = true; });

// The list of rows: only those that are in view are in the page.
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

const showRows = (data) => {
  const { fields, names, columns } = data;
  const total = columns.id.length;
  const list = document.getElementById("list");
  const filters = document.getElementById("filters");
  const count = document.getElementById("count");
  const dialog = document.getElementById("detail");
  const places = new Map(columns.id.map((id, row) => [id, row]));
  const value = (name, row) => (names[name] ? names[name][columns[name][row]] : columns[name][row]);
  const stageName = (stage) => (stage === "round-0" ? "seed" : stage.replace("-", " "));
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  let searched = null;
  const haystack = () => {
    searched ??= columns.id.map((id, row) =>
      [id, columns.answer[row], ...columns.texts.map((texts) => texts[row])].join("\n").toLowerCase());
    return searched;
  };

  const meta = (row) => {
    const line = element("p", "meta");
    line.append(tag(value("source", row), "source"));
    if (value("stage", row)) line.append(" ", tag(stageName(value("stage", row))));
    if (value("label", row)) line.append(" ", tag(value("label", row), "label"));
    if (value("asked", row)) line.append(" written for ", tag(value("asked", row)));
    if (value("predicted", row)) {
      const wrong = element("span", "bad", "predicted ");
      wrong.append(tag(value("predicted", row)));
      line.append(" ", wrong);
    }
    if (value("reason", row)) line.append(" ", element("span", "bad", value("reason", row)));
    if (columns.probability[row] !== null) line.append(" ", percent(columns.probability[row]));
    return line;
  };
  const part = (style, text) => {
    const shown = element("bdi", style, text);
    shown.dir = "auto";
    return shown;
  };
  const brief = (target, row) => {
    if (fields.length === 1) { target.append(part("text", columns.texts[0][row].slice(0, 600))); return; }
    const named = fields.map((name, place) => [name, columns.texts[place][row]]);
    if (columns.answer[row]) named.splice(1, 0, ["answer", columns.answer[row]]);
    for (const [name, text] of named) {
      const line = element("div", "line-of-row");
      line.append(element("span", "name", name), part("", text.slice(0, 300)));
      target.append(line);
    }
  };
  const texts = (target, row) => {
    fields.forEach((name, place) => {
      if (fields.length > 1) target.append(element("span", "field", name));
      target.append(part("text", columns.texts[place][row]));
    });
    if (columns.answer[row]) {
      target.append(element("span", "field", "answer"), element("bdi", "text", columns.answer[row]));
    }
  };
  const related = (target, name, id, note) => {
    const row = places.get(id);
    if (row === undefined) return;
    target.append(element("h4", "", note));
    target.append(meta(row));
    texts(target, row);
  };
  const open = (row) => {
    const body = dialog.querySelector("div");
    body.replaceChildren(meta(row));
    dialog.querySelector("h3").textContent = columns.id[row];
    texts(body, row);
    if (columns.detail[row]) body.append(element("p", "note", `dropped as ${value("reason", row)}: ${columns.detail[row]}`));
    related(body, "parent", columns.parent[row], "Written from this row");
    const near = columns.cosine[row] === null ? "" : ` (cosine ${columns.cosine[row].toFixed(2)})`;
    if (columns.nearest[row] !== columns.parent[row]) related(body, "nearest", columns.nearest[row], `Nearest row of the other side${near}`);
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  let chosen = [];
  const items = element("ul", "plain");
  items.setAttribute("aria-label", "Rows");
  list.replaceChildren(items);
  list.classList.add("virtual");
  if (columns.answer.some(Boolean)) list.classList.add("tall");
  list.tabIndex = 0;
  list.setAttribute("role", "region");
  list.setAttribute("aria-label", "Rows that the filters leave");
  const drawn = new Map();
  let height = 0;
  const draw = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / height) - 4);
    const last = Math.min(chosen.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 4);
    for (const [place, item] of drawn) {
      if (place < first || place >= last) { item.remove(); drawn.delete(place); }
    }
    for (let place = first; place < last; place += 1) {
      if (drawn.has(place)) continue;
      const row = chosen[place];
      const item = element("li", "row");
      item.style.top = `${place * height}px`;
      item.setAttribute("aria-setsize", chosen.length);
      item.setAttribute("aria-posinset", place + 1);
      const line = meta(row);
      const button = element("button", "open", "Open");
      button.type = "button";
      button.setAttribute("aria-label", `Open ${columns.id[row]}`);
      button.addEventListener("click", () => open(row));
      item.append(line, button);
      brief(item, row);
      let after = null;
      for (const [other, its] of drawn) {
        if (other > place && (after === null || other < after[0])) after = [other, its];
      }
      items.insertBefore(item, after === null ? null : after[1]);
      drawn.set(place, item);
    }
  };
  const resize = () => {
    const sample = element("li", "row");
    items.append(sample);
    height = sample.offsetHeight;
    sample.remove();
    items.style.height = `${chosen.length * height}px`;
    for (const [, item] of drawn) item.remove();
    drawn.clear();
    draw();
  };

  const wanted = {
    yours: (row) => value("source", row) === "your row",
    wrong: (row) => value("source", row) === "your row" && value("predicted", row) !== "",
    kept: (row) => value("source", row) === "kept",
    relabelled: (row) => value("source", row) === "kept" && value("asked", row) !== "",
    dropped: (row) => value("source", row) === "dropped",
  };
  const orders = {
    doubtful: (a, b) => (columns.probability[a] ?? 2) - (columns.probability[b] ?? 2) || a - b,
    near: (a, b) => (columns.cosine[b] ?? -2) - (columns.cosine[a] ?? -2) || a - b,
  };
  const filter = () => {
    const form = new FormData(filters);
    const query = (form.get("query") || "").trim().toLowerCase();
    const codes = ["label", "stage", "reason"].filter((name) => form.get(name))
      .map((name) => [columns[name], names[name].indexOf(form.get(name))]);
    const show = wanted[form.get("show")] || (() => true);
    const where = query ? haystack() : null;
    chosen = [];
    for (let row = 0; row < total; row += 1) {
      if (codes.every(([column, code]) => column[row] === code) && show(row) && (!where || where[row].includes(query))) chosen.push(row);
    }
    if (orders[form.get("order")]) chosen.sort(orders[form.get("order")]);
    count.textContent = `${chosen.length.toLocaleString("en")} of ${total.toLocaleString("en")} rows`;
    list.scrollTop = 0;
    resize();
  };
  let waiting = 0;
  for (const name of ["input", "change"]) {
    filters.addEventListener(name, () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  }
  filters.addEventListener("reset", () => { clearTimeout(waiting); waiting = setTimeout(filter); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", resize);
  filters.hidden = false;
  filter();
};

const block = document.getElementById("row-data");
if (block && "DecompressionStream" in window) {
  unpack(block.textContent).then(showRows).catch((problem) => {
    document.getElementById("count").textContent = `The list cannot be shown (${problem.message}); the first rows are below.`;
  });
}
