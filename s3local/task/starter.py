"""The folder that ``init`` writes: a commented task.yaml with a few example rows, for a user to overwrite.

One starter for each kind of task. Knows nothing of models or runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3local.exceptions import InputError
from s3local.records import write_jsonl
from s3local.storage import safe_folder_name, write_text
from s3local.task.model import TASK_FILE, Kind

BEGINNING = """\
# A task: what the texts are, what the labels mean, where the labelled rows lie. Everything here is an example
# to be replaced. When you have edited it and put your own rows into dev.jsonl and test.jsonl, check the folder.

# What to call this task in reports and file names.
name: NAME

# The sort of task: classification (one text and its label), pair (a given text with a written one, and their label)
# or extractive_qa (a question on a context, answered by a span of it).
kind: KIND

# The language of the texts.
language: English

"""

CLASSIFICATION = """\
# What the texts are, in a phrase that reads well after "A list of ...".
texts: short reviews of films

# The labels. `description` says in a line what belongs under the label; it is the one key that each label needs.
# `phrase` continues `texts` in prompts: "A list of short reviews of films that praise the film".
# `rationales` are reasons why a text would carry the label; leave them out and the teacher finds some.
labels:
  praise:
    description: The writer liked the film and would recommend it.
    phrase: that praise the film
    rationales:
      - the acting moved the writer
      - the story kept the writer guessing until the end
  complaint:
    description: The writer disliked the film and would advise against it.
    phrase: that complain about the film
  neither:
    description: The writer tells what the film is about or asks something, without judging it.
    phrase: that describe the film without judging it

# The name of the text in a row.
fields: [text]

# Which of your files' columns hold the text, the label and, if there is one, the id; here they are called the same.
columns: {text: text, label: label, id: id}

"""

PAIR = """\
# What the texts are that shall be written, in a phrase that reads well after "A list of ...".
texts: one-sentence statements about a notice

# The labels. `description` says in a line what belongs under the label; it is the one key that each label needs.
# `phrase` continues `texts` in prompts: "A list of one-sentence statements about a notice that it supports".
labels:
  supported:
    description: Whoever has read the notice knows that the statement is true.
    phrase: that must be true if the notice is right
  not_supported:
    description: The statement may be false, although the notice is right.
    phrase: that may be false although the notice is right

# The names of the two texts in a row, in the order in which the student reads them.
fields: [notice, statement]

# Which of the two is written; the other one is given. Leave it out and it is the last.
generated: statement

# Which of your files' columns hold the texts, the label and, if there is one, the id; here they are called the same.
columns: {notice: notice, statement: statement, label: label, id: id}

# More given texts, without labels, to write on: a .jsonl, .csv or .tsv file. Leave it out, and if there is no
# contexts.jsonl beside this file, those of the dev rows are used. Texts of the test rows never are.
# contexts: contexts.jsonl

"""

EXTRACTIVE_QA = """\
# What the texts are that shall be written, in a phrase that reads well after "A list of ...".
texts: questions about a notice

# The names of the two texts in a row: the context, in which the answer stands, and then the question.
fields: [notice, question]

# Which of your files' columns hold the texts, the answer, the character of the context where it begins (from 0; its
# first place, if that is left out) and, if there is one, the id; here they are called the same.
columns: {notice: notice, question: question, answer: answer, answer_start: answer_start, id: id}

# More contexts, without questions, to write on: a .jsonl, .csv or .tsv file. Leave it out, and if there is no
# contexts.jsonl beside this file, those of the dev rows are used. Texts of the test rows never are.
# contexts: contexts.jsonl

"""

END = """\
# How long a new text may be, in words or characters. Leave it out and it is taken from the dev rows.
# length: {unit: words, min: 3, max: 60}

# Prompts of your own, in place of the program's. A name after a dollar sign is filled in; an unknown one is told.
# prompts:
PROMPTS

# The labelled rows, as .jsonl, .csv or .tsv: dev is learnt from, test is only read at the end and may be left out.
dev: dev.jsonl
test: test.jsonl
"""

NOTICE = "The library on Mill Street is closed on Monday for repairs. Books can be returned at the town hall."
SHUTTLE = "A shuttle bus leaves the north gate every 20 minutes until 11 pm. Dogs travel free of charge."


@dataclass(frozen=True, slots=True)
class Starter:
    """The starter of one kind: what its file says between beginning and end, a prompt, and its example rows."""

    middle: str
    prompt: str
    dev: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]]


def _labelled(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for label, text in rows]


def _paired(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"notice": notice, "statement": statement, "label": label} for label, notice, statement in rows]


def _answered(*rows: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [
        {"notice": notice, "question": question, "answer": answer, "answer_start": notice.index(answer)}
        for notice, question, answer in rows
    ]


STARTERS: Mapping[Kind, Starter] = {
    "classification": Starter(
        CLASSIFICATION,
        "seed: 'A visitor of a cinema writes $texts $phrase$reasons, for example: \"'",
        _labelled(
            ("praise", "Could have watched it twice in a row, what a lovely ending."),
            ("praise", "I only went because of the rain and came out beaming."),
            ("complaint", "Two hours of people whispering in the dark. Never again."),
            ("complaint", "the jokes were tired before the opening credits were through"),
            ("neither", "It is set in a lighthouse in the fifties and runs for ninety minutes."),
            ("neither", "does anyone know whether there is a scene after the credits?"),
        ),
        _labelled(
            ("praise", "Finally a comedy that trusts its audience, go and see it."),
            ("complaint", "Pretty pictures, no heart. I looked at my watch a lot."),
            ("neither", "The director's third film, shot in black and white."),
        ),
    ),
    "pair": Starter(
        PAIR,
        "seed: '$given Here are $texts $phrase: \"'",
        _paired(
            ("supported", NOTICE, "Nobody can borrow books in Mill Street on Monday."),
            ("supported", NOTICE, "The town hall takes back books of the library."),
            ("not_supported", NOTICE, "The library opens again on Tuesday."),
            ("not_supported", NOTICE, "Books are lent out at the town hall."),
        ),
        _paired(
            ("supported", SHUTTLE, "Three shuttle buses an hour leave the north gate."),
            ("not_supported", SHUTTLE, "Children travel free of charge on the shuttle bus."),
        ),
    ),
    "extractive_qa": Starter(
        EXTRACTIVE_QA,
        "seed: '$given Here are $texts whose answer is $answer: \"'",
        _answered(
            (NOTICE, "Where does the library stand?", "Mill Street"),
            (NOTICE, "On which day can nobody go to the library?", "Monday"),
            (NOTICE, "Why is the library closed?", "repairs"),
            (NOTICE, "Who takes back books in the meantime?", "the town hall"),
        ),
        _answered(
            (SHUTTLE, "How long does one wait for a bus at most?", "20 minutes"),
            (SHUTTLE, "For whom does nobody have to pay?", "Dogs"),
        ),
    ),
}


def starter_task(name: str, kind: Kind = "classification") -> str:
    """The text of a commented task.yaml for a task of ``kind`` that is called ``name``."""
    starter = STARTERS[kind]
    beginning = BEGINNING.replace("KIND", kind).replace("NAME", json.dumps(name, ensure_ascii=False), 1)
    return beginning + starter.middle + END.replace("PROMPTS", f"#   {starter.prompt}")


def write_starter(folder: str | Path, kind: Kind = "classification") -> Path:
    """Write a task folder with example rows, the task called after the folder; give the path of its task.yaml.

    Raises ``InputError`` if something of that name is there already or the name cannot be that of a task,
    ``StorageError`` if it cannot be written.
    """
    folder = Path(folder)
    try:
        safe_folder_name(folder.name)
    except ValueError as exc:
        raise InputError(folder, f"the task is called after its folder, and {exc}") from exc
    if os.path.lexists(folder):
        raise InputError(folder, "exists already and is left as it is; choose another name")
    for split, rows in (("dev", STARTERS[kind].dev), ("test", STARTERS[kind].test)):
        examples = [
            {"id": f"{split}-{number}", **row, "note": "an example, to be replaced"}
            for number, row in enumerate(rows, start=1)
        ]
        write_jsonl(folder / f"{split}.jsonl", examples)
    write_text(folder / TASK_FILE, starter_task(folder.name, kind))
    return folder / TASK_FILE
