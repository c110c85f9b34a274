"""Toy tasks of every kind, and a scripted teacher for each: a pair, spans, ten labels, a script without spaces."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from small_world import THINGS, WORDS

from s3local.task.model import Task
from s3local.teacher.protocol import Request

Write = Callable[[Request], str]
Rows = Sequence[Mapping[str, Any]]


def write_task(folder: Path, description: Mapping[str, Any], dev: Rows, test: Rows, contexts: Rows = ()) -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(json.dumps(description), encoding="utf-8")
    for name, rows in (("dev", dev), ("test", test), ("contexts", contexts)):
        if rows:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Task.load(folder)


# A pair: does the claim fit the note?

LENGTH = {"unit": "characters", "min": 5, "max": 120}


def note(chance: random.Random) -> tuple[str, str, str]:
    thing = chance.choice(THINGS)
    mood = chance.choice(sorted(WORDS))
    return thing, mood, f"anna says the {thing} was {chance.choice(WORDS[mood])} and {chance.choice(WORDS[mood])}"


def pair_row(chance: random.Random, label: str) -> dict[str, str]:
    thing, mood, text = note(chance)
    said = mood if label == "fits" else next(other for other in sorted(WORDS) if other != mood)
    return {"note": text, "claim": f"so the {thing} seemed {chance.choice(WORDS[said])} to her", "label": label}


def pair_task(folder: Path, *, generated: str | None = None) -> Task:
    chance = random.Random(5)
    description = {
        "name": "toy pair",
        "kind": "pair",
        "texts": "claims about a note",
        "fields": ["note", "claim"],
        **({"generated": generated} if generated else {}),
        "labels": {
            "fits": {"description": "The claim follows from the note.", "phrase": "that fit the note"},
            "clashes": {"description": "The claim contradicts the note.", "phrase": "that clash with the note"},
        },
        "length": LENGTH,
    }
    dev, test = ([pair_row(chance, label) for label in ("fits", "clashes") * n] for n in (7, 3))
    contexts = [{"note": note(chance)[2]} for _ in range(6)] + [{"note": test[0]["note"]}]
    return write_task(folder, description, dev, test, [] if generated else contexts)


def write_pair(request: Request) -> str:
    """A claim, or a note, for the given text that stands last in the prompt; now and then a copy of it or nothing."""
    chance = random.Random(request.seed)
    given = re.findall(r"(?:Note|Claim): (.*)", request.prompt)[-1]
    if chance.random() < 0.15:
        return chance.choice(["", f"{given}\n"])
    fits = "that fit" in request.prompt
    mood = next(mood for mood in sorted(WORDS) if set(WORDS[mood]) & set(given.split()))
    said = mood if fits else next(other for other in sorted(WORDS) if other != mood)
    thing = next(thing for thing in THINGS if thing in given)
    words = f"{chance.choice(WORDS[said])} or even {chance.choice(WORDS[said])} the {chance.choice(THINGS)} aside"
    return f"well the {thing} must be {words}\n"


# Spans: which person did it, and when?

PEOPLE = ("Ada Brook", "Ben Stone", "Cleo Marsh", "Dora Field", "Emil Wood", "Flora Hill")
PLACES = ("mill", "barn", "bridge", "tower", "harbour", "chapel")


def paragraph(chance: random.Random) -> tuple[str, str, str, str]:
    person, place, year = chance.choice(PEOPLE), chance.choice(PLACES), str(chance.randint(1400, 1999))
    return f"In a report the {place} was built by {person} in {year}. It burnt down later.", person, place, year


def span_row(chance: random.Random) -> dict[str, Any]:
    context, person, place, year = paragraph(chance)
    question, answer = chance.choice(
        [(f"Who was the builder of this {place}?", person), (f"When did work on the {place} begin?", year)]
    )
    return {"context": context, "question": question, "answer": answer, "answer_start": context.index(answer)}


def span_task(folder: Path) -> Task:
    chance = random.Random(6)
    description = {"name": "toy spans", "kind": "extractive_qa", "texts": "questions about a report"}
    dev, test = [span_row(chance) for _ in range(12)], [span_row(chance) for _ in range(5)]
    contexts = [{"context": paragraph(chance)[0]} for _ in range(6)] + [{"context": test[0]["context"]}]
    return write_task(folder, description, dev, test, contexts)


def write_question(request: Request) -> str:
    """A question for the answer that stands last in the prompt; now and then one that is none or gives it away."""
    chance = random.Random(request.seed)
    if request.prompt.endswith("Answer, in words of the context:"):  # the round trip
        return re.findall(r"\d{4}|[A-Z]\w+ [A-Z]\w+", request.prompt.split("Question:")[0])[-1] + "\n"
    answer = (re.findall(r'answer is "(.*)"', request.prompt) or re.findall(r"answer: (.*)", request.prompt, re.I))[-1]
    if chance.random() < 0.15:
        return chance.choice(["", f"Is it {answer}?\n", "no question here at all\n"])
    place = next(place for place in PLACES if place in request.prompt)
    asks = "At what time" if answer[:4].isdigit() else "By which person"
    return f"{asks} was the {place} {chance.choice(THINGS)} {chance.choice(THINGS)} {chance.choice(THINGS)}?\n"


# Ten labels, and a script without spaces

TOPICS = tuple(f"topic{number}" for number in range(10))
TELLING = dict(zip(TOPICS, THINGS, strict=False))


def ten_label_task(folder: Path) -> Task:
    description = {
        "name": "toy ten",
        "texts": "short notes",
        "labels": {name: {"description": f"It is about a {TELLING[name]}.", "phrase": f"on {name}"} for name in TOPICS},
        "length": LENGTH,
    }
    dev, test = (
        [
            {"text": f"note {n} of {way} tells of the {TELLING[name]} again", "label": name}
            for n in range(rows)
            for name in TOPICS
        ]
        for way, rows in (("anna", 3), ("bert", 2))
    )
    return write_task(folder, description, dev, test)


def write_ten(request: Request) -> str:
    chance = random.Random(request.seed)
    name = re.findall(r"topic\d", request.prompt)[-1]
    some = " ".join(chance.sample(WORDS["positive"] + WORDS["negative"], 3))
    return f"a {some} {TELLING[name]} of number {chance.randint(1, 999)}\n"


CHINESE = {"好": ("好吃", "新鲜", "满意", "干净"), "差": ("难吃", "冰冷", "失望", "肮脏")}
DISHES = ("面条", "米饭", "饺子", "豆腐", "茶水", "烤鸭", "包子", "青菜")


def chinese_task(folder: Path) -> Task:
    description = {
        "name": "餐厅",
        "language": "Chinese",
        "texts": "餐厅的评论",
        "labels": {
            "好": {"description": "客人很高兴", "phrase": "好的"},
            "差": {"description": "客人不高兴", "phrase": "差的"},
        },
    }
    dev, test = (
        [
            {"text": f"{when}的{dish}很{word}，下次{'再来' if label == '好' else '不来'}。", "label": label}
            for label, words in CHINESE.items()
            for dish, word in zip(DISHES, words * 2, strict=True)
        ]
        for when in ("昨天", "今天")
    )
    return write_task(folder, description, dev, test)


def write_chinese(request: Request) -> str:
    """Reviews in Chinese characters, now and then in English."""
    chance = random.Random(request.seed)
    if chance.random() < 0.1:
        return "a fine dinner indeed\n"
    label = "好" if "评论 好的" in request.prompt else "差"
    first, second = chance.sample(DISHES, 2)
    one, other = chance.choice(CHINESE[label]), chance.choice(CHINESE[label])
    place = chance.choice(("楼上", "车站旁", "海边", "学校里"))
    return f"{place}那家的{first}真{one}，{second}也{other}得{chance.choice('让人奇怪了')}。\n"
