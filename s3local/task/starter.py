"""The task folder that ``init`` writes: a commented task.yaml and a few example rows, for a user to replace.

There is one starter for each kind of task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3local.exceptions import InputError
from s3local.records import write_jsonl
from s3local.storage import safe_folder_name, write_text
from s3local.task.model import TASK_FILE, Kind

BEGINNING = """\
# A task: what the texts are, what the labels mean, where the labelled rows are. Everything here is an example.
# Edit it, put your own rows into dev.jsonl and test.jsonl, and run `s3local check` on this folder.

# The name of this task in reports, and of its folder in runs/. Letters, digits, spaces and most signs are allowed.
name: NAME

# The kind of task: classification (one text and its label), pair (a source text, a target text and the label of both)
# or extractive_qa (a question on a context; the answer is a span of the context).
kind: KIND

# The language of the texts.
language: English

"""

CLASSIFICATION = """\
# What the texts are: a phrase that continues "A list of ...".
texts: short reviews of films

# The labels. `description` says in one line which texts get the label; every label needs it.
# `phrase` continues `texts` in prompts: "A list of short reviews of films that praise the film".
# `rationales` are reasons why a text would carry the label. If there are none, the teacher writes some.
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
    description: The writer says what the film is about or asks something, without judging it.
    phrase: that describe the film without judging it

# The name of the text in a row.
fields: [text]

# The columns of your files that hold the text, the label and, if there is one, the id. Here the names are the same.
columns: {text: text, label: label, id: id}

# Real rows without labels, if you have some, in a .jsonl, .csv or .tsv file: taken before the teacher writes more.
# If you leave it out, a file unlabelled.jsonl beside this one is used, if there is one.
# unlabelled: unlabelled.jsonl

"""

PAIR = """\
# What the target texts are, which the teacher writes: a phrase that continues "A list of ...".
texts: one-sentence statements about a notice

# The labels. `description` says in one line which pairs get the label; every label needs it.
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

# The target field: the teacher writes this text about the other one. If you leave it out, it is the last field.
generated: statement

# The columns of your files that hold the texts, the label and, if there is one, the id. Here the names are the same.
columns: {notice: notice, statement: statement, label: label, id: id}

# More source texts without labels, for the teacher to write about: a file of rows. If you leave it out
# and there is no contexts.jsonl beside this file, the source texts of dev are used. Those of test are never used.
# contexts: contexts.jsonl

# Real rows without labels, if you have some, in a .jsonl, .csv or .tsv file: taken before the teacher writes more.
# If you leave it out, a file unlabelled.jsonl beside this one is used, if there is one.
# unlabelled: unlabelled.jsonl

"""

EXTRACTIVE_QA = """\
# What the questions are, which the teacher writes: a phrase that continues "A list of ...".
texts: questions about a notice

# The names of the two texts in a row: the context, which contains the answer, and then the question.
fields: [notice, question]

# The columns of your files that hold the texts, the answer, the character of the context where the answer begins
# (from 0; without it, the answer's first place counts) and, if there is one, the id. Here the names are the same.
columns: {notice: notice, question: question, answer: answer, answer_start: answer_start, id: id}

# More contexts without questions, for the teacher to write about: a file of rows. If you leave it out
# and there is no contexts.jsonl beside this file, the contexts of dev are used. Those of test are never used.
# contexts: contexts.jsonl

"""

END = """\
# How long a new text may be, in words or characters. If you leave it out, the dev rows decide.
# length: {unit: words, min: 3, max: 60}

# Your own prompts, instead of the built-in ones. A name after a dollar sign is replaced by its value.
# prompts:
PROMPTS

# The labelled rows, as .jsonl, .csv, .xlsx and others. The classifier learns from dev. Test measures it at the end;
# without test, leave the line out.
dev: dev.jsonl
test: test.jsonl

# How these files are read, where they do not say it: the encoding of a text file that is not UTF-8, the separator of a
# table that has another one than its header, the sheet of a workbook.
# reading: {encoding: cp1252, separator: ";", sheet: Gold}
"""

NOTICE = "The library on Mill Street is closed on Monday for repairs. Books can be returned at the town hall."
SHUTTLE = "A shuttle bus leaves the north gate every 20 minutes until 11 pm. Dogs travel free of charge."


@dataclass(frozen=True, slots=True)
class Starter:
    """The starter of one kind: the middle part of its task.yaml, a prompt, and its example rows."""

    middle: str
    prompt: str
    dev: Sequence[Mapping[str, object]]
    test: Sequence[Mapping[str, object]]


def _labelled(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for label, text in rows]


def _paired(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"notice": notice, "statement": statement, "label": label} for label, notice, statement in rows]


def _answered(*rows: tuple[str, str, str]) -> list[dict[str, object]]:
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
    """The text of a commented task.yaml for a task of ``kind`` with this name."""
    starter = STARTERS[kind]
    beginning = BEGINNING.replace("KIND", kind).replace("NAME", json.dumps(name, ensure_ascii=False))
    return beginning + starter.middle + END.replace("PROMPTS", f"#   {starter.prompt}")


def write_starter(folder: str | Path, kind: Kind = "classification") -> Path:
    """Write a task folder with example rows; the path of its task.yaml. The task has the name of the folder.

    Raises ``InputError`` if something of that name is there already or the name cannot be that of a task,
    ``StorageError`` if it cannot be written.
    """
    folder = Path(folder)
    try:
        safe_folder_name(folder.name)
    except ValueError as exc:
        raise InputError(folder, f"the task is called after its folder, and {exc}") from exc
    if os.path.lexists(folder):
        raise InputError(folder, "exists already and stays as it is; choose another name")
    for split, rows in (("dev", STARTERS[kind].dev), ("test", STARTERS[kind].test)):
        examples = [
            {"id": f"{split}-{number}", **row, "note": "an example to replace"}
            for number, row in enumerate(rows, start=1)
        ]
        write_jsonl(folder / f"{split}.jsonl", examples)
    write_text(folder / TASK_FILE, starter_task(folder.name, kind))
    return folder / TASK_FILE
