"""Seed synthesis: the first data, zero-shot. Each example is led by rationales of its label (S3, section 3.1).

For pairs of texts, a context and a label are drawn, and there are no rationales. For question answering, a context and
one of its candidate answers are drawn. Of gold rows, only the lengths are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s3local.records import SPAN, Answer
from s3local.synthesis.planning import (
    Planned,
    another_label,
    in_turn,
    length_of,
    random_generator,
    request_seeds,
    sample,
    shuffled_labels,
)
from s3local.synthesis.prompts import Prompts
from s3local.task.model import Task
from s3local.teacher.protocol import Sampling


@dataclass(frozen=True, slots=True)
class Context:
    """A source text, such as a premise; ``answers`` are the spans that a question could ask for, by rule."""

    id: str
    text: str
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


def plan_seed(
    prompts: Prompts,
    wanted: Mapping[str, int],
    rationales: Mapping[str, Sequence[str]],
    *,
    shown: int,
    samples: int,
    sampling: Sampling,
    seed: Sequence[int],
    length_like: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Plan ``wanted`` texts of each label, each led by ``shown`` rationales of its label.

    The rationales are drawn anew for every ``samples`` texts of a label, which share their prompt: the teacher reads it
    once. ``contrast`` is the weight of the contrast prompt (``Contrast.gamma``), which asks for another label drawn at
    random. ``length_like`` are texts whose lengths the new texts get, in turn; without them the length is free.
    """
    generator = random_generator(seed)
    labels = shuffled_labels(wanted, generator)
    lengths = in_turn(length_like, generator)
    subjects = {
        name: _subjects(prompts.task, name, rationales, shown, samples, contrast > 0, generator)
        for name in dict.fromkeys(labels)
    }
    planned = []
    for name, request_seed in zip(labels, request_seeds(seed, len(labels)), strict=True):
        subject, like = next(subjects[name]), next(lengths, None)
        prompt = prompts.seed(prompts.task.label(name), subject.rationales, like)
        origin: dict[str, Any] = {"rationales": subject.rationales, **length_of(like)}
        contrast_prompt = None
        if subject.against is not None:
            origin["against"] = subject.against
            contrast_prompt = prompts.seed(prompts.task.label(subject.against), subject.others, like)
        planned.append(Planned(prompt.request(request_seed, sampling, contrast_prompt, contrast), name, origin))
    return planned


@dataclass(frozen=True, slots=True)
class _Subject:
    """What texts of a label are led by: its rationales, and the label ``against`` it with the ``others``, if any."""

    rationales: list[str]
    against: str | None = None
    others: Sequence[str] = ()


def _subjects(
    task: Task,
    name: str,
    rationales: Mapping[str, Sequence[str]],
    shown: int,
    samples: int,
    contrasted: bool,
    generator: np.random.Generator,
) -> Iterator[_Subject]:
    """The subject of each text of the label ``name``, without end: a new one after every ``samples`` texts."""
    while True:
        chosen = sample(rationales.get(name, ()), shown, generator)
        subject = _Subject(chosen)
        if contrasted:
            other = another_label(task.label_names, name, generator)
            subject = _Subject(chosen, other, sample(rationales.get(other, ()), shown, generator))
        yield from itertools.repeat(subject, samples)


def plan_seed_on(
    prompts: Prompts,
    wanted: Mapping[str, int],
    contexts: Sequence[Context],
    *,
    sampling: Sampling,
    seed: Sequence[int],
    length_like: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Plan ``wanted`` texts of each label, each on one of the ``contexts`` in turn.

    The order of the contexts is drawn, so that several calls use all of them equally. Where contexts have answers, a
    rule is drawn first and then one of its spans, so that the few names and numbers are asked for as often as the many
    phrases. ``length_like`` and ``contrast`` as for ``plan_seed``; questions have no labels, and so no contrast.
    """
    generator = random_generator(seed)
    (source_field,) = prompts.task.source_fields
    planned = []
    labels = shuffled_labels(wanted, generator)
    turn, lengths = in_turn(contexts, generator), in_turn(length_like, generator)
    for name, request_seed in zip(labels, request_seeds(seed, len(labels)), strict=True):
        context, like = next(turn), next(lengths, None)
        origin: dict[str, Any] = {"context": context.id, **length_of(like)}
        source = {source_field: context.text}
        answers: tuple[Answer, ...] = ()
        if name == SPAN and not prompts.task.labels:
            rule = list(context.answers)[int(generator.integers(len(context.answers)))]
            spans = context.answers[rule]
            answers = (spans[int(generator.integers(len(spans)))],)
            origin["rule"] = rule
        prompt = prompts.seed_on(name, source, answers[0].text if answers else "", like)
        contrast_prompt = None
        if contrast and prompts.task.labels:
            origin["against"] = other = another_label(prompts.task.label_names, name, generator)
            contrast_prompt = prompts.seed_on(other, source, "", like)
        request = prompt.request(request_seed, sampling, contrast_prompt, contrast)
        planned.append(Planned(request, name, origin, source, answers))
    return planned
