"""The prompt style of a teacher that the manifest does not know, by a short measurement of what it does.

Each style asks for texts of three labels. A text counts if the rules keep it, nothing had to be cut off from it, and it
is nearest to gold texts of its own label. A template in the file says little: base models have one, and small instruct
models continue lists better than they answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3local.curation.rules import check_rules
from s3local.embedder import Embedder, LazyEmbedder
from s3local.exceptions import ModelError, TeacherError
from s3local.progress import Advance, Progress, ignore
from s3local.records import Example
from s3local.synthesis.planning import Planned, Reply, read_candidates, request_seeds
from s3local.synthesis.prompts import Prompts
from s3local.task.model import Label, Task
from s3local.teacher.engine import LlamaTeacher
from s3local.teacher.protocol import Sampling, Teacher
from s3local.weights.manifest import Model, PromptStyle, default_model, load_manifest, write_record
from s3local.weights.store import find_encoder, folder_of, state_of

STYLES: tuple[PromptStyle, ...] = ("list", "prefill", "chat")
"""In the order in which they are preferred: lists allow contrast, and a begun answer has no lead-in."""
LEAST_GAIN = 0.15
"""A style replaces an earlier one if it gives this share of good texts more."""
TEXTS_PER_LABEL = 4
TEXT_TOKENS = 32
MOST_BYTES = 1_500_000_000
"""A larger file would take more than a minute, and is asked in chat if it has a template."""

TASK = Task(
    name="style",
    texts="messages to an online shop",
    labels=(
        Label(
            name="late parcel",
            description="The writer waits for a parcel that has not come.",
            phrase="that complain about a parcel that has not arrived",
        ),
        Label(
            name="wrong invoice",
            description="The writer asks about an amount on an invoice.",
            phrase="that ask about a wrong amount on an invoice",
        ),
        Label(
            name="broken item",
            description="The writer reports that something arrived broken.",
            phrase="that report that something arrived broken",
        ),
    ),
)
GOLD: Mapping[str, Sequence[str]] = {
    "late parcel": (
        "My parcel was due on Monday and there is still no sign of it.",
        "It is ten days now, where is the package with my shoes?",
        "The tracking page has said out for delivery since last week.",
        "I am still waiting for the books I ordered on the third.",
    ),
    "wrong invoice": (
        "You charged me twice for the same lamp on my last invoice.",
        "Why does the bill say 49 euros when the price was 39?",
        "The discount code is missing from the invoice you sent.",
        "There is a fee of five pounds on my bill that I do not understand.",
    ),
    "broken item": (
        "The mug was in pieces when I opened the box.",
        "One leg of the table is cracked, it came like that.",
        "The screen of the tablet has a scratch right across it.",
        "The lid of the teapot was smashed, please send a new one.",
    ),
}


@dataclass(frozen=True, slots=True)
class StyleScore:
    """What a teacher does in a style: the share of its texts that are ``good``."""

    style: PromptStyle
    good: float


def measure_styles(teacher: Teacher, embedder: Embedder, advance: Advance = ignore) -> list[StyleScore]:
    """The score of each style that the teacher has; without a chat template that is the list alone."""
    scores = []
    for style in STYLES:
        prompts = Prompts(TASK, style, TEXT_TOKENS, teacher.chat, teacher.count_tokens)
        try:
            planned = _planned(prompts)
        except TeacherError:
            continue
        completions = teacher.generate([item.request for item in planned], advance)
        replies = [Reply.to(item, completion) for item, completion in zip(planned, completions, strict=True)]
        scores.append(StyleScore(style, _good_share(replies, embedder)))
    return scores


def best_style(scores: Sequence[StyleScore]) -> StyleScore:
    """The first style, unless a later one is better by ``LEAST_GAIN``."""
    best = scores[0]
    for score in scores[1:]:
        if score.good >= best.good + LEAST_GAIN:
            best = score
    return best


def choose_style(model: Model, progress: Progress) -> Model:
    """The imported ``model`` with the prompt style that suits it, which ``progress`` says and its record keeps.

    A model of the manifest keeps the style that is there, a file above ``MOST_BYTES`` the one that its header suggests.
    Raises ``StorageError`` if the record cannot be written.
    """
    if "teacher" not in model.roles:
        return model
    if model.id in load_manifest():
        progress.say(f"{model.id}: prompt style {model.prompt_style}, as the manifest says")
        return model
    encoder = default_model("encoder")
    if (model.size or 0) > MOST_BYTES or state_of(encoder) != "ready":
        progress.say(f"{model.id}: prompt style {model.prompt_style}, by size and chat template; it was not measured")
        return model
    total = len(STYLES) * len(TASK.labels) * TEXTS_PER_LABEL
    try:
        with (
            contextlib.closing(LlamaTeacher(folder_of(model) / model.files[0].path)) as teacher,
            progress.step(f"measuring how {model.id} is best asked", total, "texts") as advance,
        ):
            scores = measure_styles(teacher, LazyEmbedder(find_encoder(encoder.id)), advance)
    except (ModelError, TeacherError) as exc:
        progress.say(f"{model.id}: prompt style {model.prompt_style}; it could not be measured: {exc}")
        return model
    best = best_style(scores)
    found = ", ".join(f"{score.style} {score.good:.0%}" for score in scores)
    progress.say(f"{model.id}: prompt style {best.style}; good texts by style: {found}")
    changed = model.model_copy(update={"prompt_style": best.style})
    write_record(changed)
    return changed


def _planned(prompts: Prompts) -> list[Planned]:
    planned = []
    for number, label in enumerate(TASK.labels):
        *shots, last = [Example(f"{number}-{n}", {"text": text}, label.name) for n, text in enumerate(GOLD[label.name])]
        prompt = prompts.extrapolation(label.name, shots, last)
        seeds = request_seeds([number], TEXTS_PER_LABEL)
        planned += [Planned(prompt.request(seed, Sampling()), label.name, {}) for seed in seeds]
    return planned


def _good_share(replies: Sequence[Reply], embedder: Embedder) -> float:
    gold = [(text, label) for label, texts in GOLD.items() for text in texts]
    candidates = read_candidates(replies, prefix="style", fields=["text"], target_field="text")
    kept = check_rules(candidates, gold=[text for text, _ in gold], names=TASK.label_names).kept
    clean = [candidate.example for candidate in kept if not set(candidate.origin.get("cleaned", ())) - {"quotes"}]
    if not clean:
        return 0.0
    centres = np.stack([embedder.embed(list(texts)).mean(axis=0) for texts in GOLD.values()])
    nearest = (embedder.embed([row.text for row in clean]) @ centres.T).argmax(axis=1)
    labels = list(GOLD)
    right = sum(labels[place] == row.label for place, row in zip(nearest.tolist(), clean, strict=True))
    return float(right / len(replies))
