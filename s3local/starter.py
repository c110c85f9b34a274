"""The folder that ``init`` writes: a commented task.yaml with a few example rows, for a user to overwrite.

Knows nothing of models or runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from s3local.exceptions import InputError
from s3local.records import write_jsonl
from s3local.storage import write_text
from s3local.task import TASK_FILE

STARTER = """\
# A task: what the texts are, what the labels mean, where the labelled rows lie. Everything here is an example
# to be replaced. When you have edited it and put your own rows into dev.jsonl and test.jsonl, check the folder.

# What to call this task in reports and file names.
name: NAME

# The sort of task; so far only this one.
kind: classification

# The language of the texts.
language: English

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

# How long a new text may be, in words or characters. Leave it out and it is taken from the dev rows.
# length: {unit: words, min: 3, max: 60}

# The labelled rows, as .jsonl, .csv or .tsv: dev is learnt from, test is only read at the end and may be left out.
dev: dev.jsonl
test: test.jsonl
"""

STARTER_DEV = (
    ("praise", "Could have watched it twice in a row, what a lovely ending."),
    ("praise", "I only went because of the rain and came out beaming."),
    ("complaint", "Two hours of people whispering in the dark. Never again."),
    ("complaint", "the jokes were tired before the opening credits were through"),
    ("neither", "It is set in a lighthouse in the fifties and runs for ninety minutes."),
    ("neither", "does anyone know whether there is a scene after the credits?"),
)
STARTER_TEST = (
    ("praise", "Finally a comedy that trusts its audience, go and see it."),
    ("complaint", "Pretty pictures, no heart. I looked at my watch a lot."),
    ("neither", "The director's third film, shot in black and white."),
)


def starter_task(name: str) -> str:
    """The text of a commented task.yaml for a task called ``name``."""
    return STARTER.replace("NAME", json.dumps(name, ensure_ascii=False), 1)


def write_starter(folder: str | Path) -> Path:
    """Write a task folder with example rows, the task called after the folder; give the path of its task.yaml.

    Raises ``InputError`` if something of that name is there already, ``StorageError`` if it cannot be written.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise InputError(folder, "exists already and is left as it is; choose another name")
    for split, rows in (("dev", STARTER_DEV), ("test", STARTER_TEST)):
        examples = [
            {"id": f"{split}-{number}", "text": text, "label": label, "note": "an example, to be replaced"}
            for number, (label, text) in enumerate(rows, start=1)
        ]
        write_jsonl(folder / f"{split}.jsonl", examples)
    write_text(folder / TASK_FILE, starter_task(folder.name))
    return folder / TASK_FILE
