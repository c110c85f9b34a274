"""Seed synthesis: the first data, zero-shot, each example led by rationales of its label (S3, section 3.1).

Where a text is written on a given one, a context and a label are drawn instead (for question answering, a context and
one of the spans that could be an answer), and there are no rationales. Of gold rows it knows the lengths alone; nothing
of students, or of what is done with the examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s3local.records import SPAN, Answer
from s3local.synthesis.planning import Planned, another_label, drawn, in_turn, labels_in_turn, length_of, request_seeds
from s3local.synthesis.prompts import Prompts
from s3local.teacher.protocol import Sampling


@dataclass(frozen=True, slots=True)
class Context:
    """A given text to write on; ``answers`` are the spans that a question could ask for, by rule."""

    id: str
    text: str
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


def plan_seed(
    prompts: Prompts,
    wanted: Mapping[str, int],
    rationales: Mapping[str, Sequence[str]],
    *,
    shown: int,
    sampling: Sampling,
    seed: Sequence[int],
    models: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Requests for so many texts of each label as ``wanted`` says, each led by ``shown`` rationales of its label.

    With a ``contrast``, a text is set against what the teacher would write for another label, drawn from all of the
    task's, so that it fits its own better (``Contrast.gamma``).

    ``models`` are texts whose lengths the new ones shall have, in turn, where gold texts are long; without
    them the teacher writes as long as it likes.
    """
    chance = np.random.default_rng(list(seed))
    planned = []
    labels = labels_in_turn(wanted, chance)
    lengths = in_turn(models, chance)
    for name, request_seed in zip(labels, request_seeds(seed, len(labels)), strict=True):
        chosen = drawn(rationales.get(name, ()), shown, chance)
        model = next(lengths, None)
        prompt = prompts.seed(prompts.task.label(name), chosen, model)
        origin: dict[str, Any] = {"rationales": chosen, **length_of(model)}
        rival = None
        if contrast:
            origin["against"] = other = another_label(prompts.task.label_names, name, chance)
            reasons = drawn(rationales.get(other, ()), shown, chance)
            rival = prompts.seed(prompts.task.label(other), reasons, model)
        planned.append(Planned(prompt.request(request_seed, sampling, rival, contrast), name, origin))
    return planned


def plan_seed_on(
    prompts: Prompts,
    wanted: Mapping[str, int],
    contexts: Sequence[Context],
    *,
    sampling: Sampling,
    seed: Sequence[int],
    models: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Requests for so many texts of each label as ``wanted`` says, each on a context, the contexts in turn.

    The turn's order is drawn, so that several calls use all of them alike. Where contexts have answers, a rule is
    drawn and then one of its spans: names and numbers are few beside the phrases, and asked for as often.
    ``models`` and ``contrast`` as for ``plan_seed``; questions have no other label to be set against.
    """
    chance = np.random.default_rng(list(seed))
    (given,) = prompts.task.source_fields
    planned = []
    labels = labels_in_turn(wanted, chance)
    turn, lengths = in_turn(contexts, chance), in_turn(models, chance)
    for name, request_seed in zip(labels, request_seeds(seed, len(labels)), strict=True):
        context, model = next(turn), next(lengths, None)
        origin: dict[str, Any] = {"context": context.id, **length_of(model)}
        fields = {given: context.text}
        answers: tuple[Answer, ...] = ()
        if name == SPAN and not prompts.task.labels:
            rule = list(context.answers)[int(chance.integers(len(context.answers)))]
            spans = context.answers[rule]
            answers = (spans[int(chance.integers(len(spans)))],)
            origin["rule"] = rule
        prompt = prompts.seed_on(name, fields, answers[0].text if answers else "", model)
        rival = None
        if contrast and prompts.task.labels:
            origin["against"] = other = another_label(prompts.task.label_names, name, chance)
            rival = prompts.seed_on(other, fields, "", model)
        request = prompt.request(request_seed, sampling, rival, contrast)
        planned.append(Planned(request, name, origin, fields, answers))
    return planned
