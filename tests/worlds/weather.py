"""Small tasks of every kind about the weather, their prompts, and plans of requests for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from s3local.records import SPAN, Answer, Example
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned
from s3local.synthesis.prompts import Prompts
from s3local.synthesis.seed import Context, plan_seed, plan_seed_on
from s3local.task.model import Label, Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Sampling

LABELS = tuple(Label(name=name, description=f"About {name}.", phrase=f"on {name}") for name in ("sun", "rain", "wind"))
TEXTS = Task(name="w", texts="weather notes", labels=LABELS)
WANTED = {"sun": 8, "rain": 12}
PAIRS = Task(name="p", kind="pair", texts="claims", fields=("note", "claim"), labels=LABELS)
SPANS = Task(name="s", kind="extractive_qa", texts="questions", fields=("note", "question"))


def prompts(task: Task) -> Prompts:
    teacher = FakeTeacher()
    return Prompts(task, "list", 40, teacher.chat, teacher.count_tokens)


def rows_of(task: Task) -> list[Example]:
    answers = () if task.labels else (Answer("note", 0),)
    return [
        Example(f"{label}-{n}", {name: f"{name} {n} of {label}" for name in task.fields}, label, answers)
        for label in task.groups
        for n in range(6)
    ]


def seeds(contrast: float) -> list[Planned]:
    reasons = {label.name: [f"reason {n} of {label.name}" for n in range(4)] for label in LABELS}
    return plan_seed(
        prompts(TEXTS), WANTED, reasons, shown=2, samples=3, sampling=Sampling(), seed=[1], contrast=contrast
    )


def pair_seeds(contrast: float) -> list[Planned]:
    contexts = [Context(f"c{n}", f"the note {n}") for n in range(3)]
    return plan_seed_on(prompts(PAIRS), WANTED, contexts, sampling=Sampling(), seed=[1], contrast=contrast)


def extrapolated(task: Task) -> Callable[[float], list[Planned]]:
    rows = rows_of(task)
    gold = {label: [row for row in rows if row.label == label] for label in task.groups}

    def plan(contrast: float) -> list[Planned]:
        return plan_extrapolation(
            prompts(task),
            WANTED if task.labels else {SPAN: 20},
            rows[:8],
            gold,
            shots=2,
            samples=5,
            sampling=Sampling(),
            seed=[1],
            contrast=contrast,
        )

    return plan


def check_contrast(plan: Callable[[float], list[Planned]]) -> None:
    """A contrast prompt is of another label, and there is none without a weight."""
    plain, planned = plan(0.0), plan(0.5)
    assert plan(0.5) == planned
    assert Counter(item.label for item in plain) == Counter(item.label for item in planned) == WANTED
    assert not any(item.request.contrast for item in plain)
    against = set()
    for item in planned:
        contrast = item.request.contrast
        assert contrast is not None
        assert contrast.gamma == 0.5
        named = [label.name for label in LABELS if f"on {label.name}" in contrast.prompt]
        assert len(named) == 1
        assert named != [item.label]
        assert f"on {item.label}" in item.request.prompt
        shown = [line for line in contrast.prompt.splitlines() if not line.startswith("Note: ")]
        assert not any(f"of {label.name}" in line for line in shown for label in LABELS if [label.name] != named)
        against.add(named[0])
    assert len(against) > 1


def check_lengths(planned: Sequence[Planned], models: Sequence[str]) -> None:
    """The texts are to be as long as ``models``, words of five characters, each as often as the others."""
    assert Counter(item.origin["characters"] for item in planned) == {
        len(model): len(planned) // len(models) for model in models
    }
    for item in planned:
        words = item.origin["characters"] // len("word ")
        assert words - 2 <= item.request.min_tokens <= words + 1 <= item.request.max_tokens <= words + 3
