"""The scheduler against a simulated cache: whatever the requests are, every slot holds its own prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from s3local.teacher.scheduler import MIN_SHARED_TOKENS, Prompts, SlotScheduler, common_length


@dataclass
class Simulation:
    """Runs a schedule on lists of tokens; a text has as many tokens as the request's index modulo four."""

    prompts: list[Prompts]
    n_slots: int
    reuse: bool = True
    computed: int = 0
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = SlotScheduler(self.prompts, self.n_slots, reuse=self.reuse)
        self.cache: list[list[list[int]]] = [[[], []] for _ in range(self.n_slots)]
        self.to_compute: dict[int, list[list[int]]] = {}
        self.to_generate: dict[int, int] = {}

    def run(self, chunk: int) -> None:
        while True:
            while assignments := self.scheduler.assign():
                for assignment in assignments:
                    self._assign(assignment)
            if not self.to_generate:
                break
            self._compact()
            for slot in sorted(self.to_generate):
                self._step(slot, chunk)
        assert sorted(self.order) == list(range(len(self.prompts)))

    def _assign(self, assignment) -> None:  # type: ignore[no-untyped-def]
        slot, prompts = assignment.slot, self.prompts[assignment.request]
        assert slot not in self.to_generate, "a slot was assigned twice"
        assert self.scheduler.groups[assignment.group].prompts == prompts
        assert len(assignment.reused) == len(prompts)
        self.order.append(assignment.request)
        pending = []
        for index, (prompt, reused) in enumerate(zip(prompts, assignment.reused, strict=True)):
            held = self.cache[assignment.source][index]
            assert held[:reused] == list(prompt[:reused]), "the source does not hold what is reused"
            assert reused == len(prompt) if not assignment.computes_prompt else reused < len(prompt)
            assert reused == 0 or self.reuse
            self.cache[slot][index] = held[:reused]
            pending.append(list(prompt[reused:]))
            self.computed += len(prompt) - reused
        self.to_compute[slot] = pending
        self.to_generate[slot] = assignment.request % 4

    def _compact(self) -> None:
        moves = self.scheduler.compact()
        for source, target in moves:
            assert target not in self.to_generate
            self.cache[target] = [list(tokens) for tokens in self.cache[source]]
            self.to_compute[target] = self.to_compute.pop(source)
            self.to_generate[target] = self.to_generate.pop(source)
        assert sorted(self.to_generate) == list(range(len(self.to_generate))), "active slots are not adjacent"

    def _step(self, slot: int, chunk: int) -> None:
        pending = self.to_compute[slot]
        if any(pending):
            for index, tokens in enumerate(pending):
                self.cache[slot][index] += tokens[:chunk]
                del tokens[:chunk]
            if not any(pending):
                request = self.scheduler.slots[slot].request
                assert request is not None
                held = self.cache[slot][: len(self.prompts[request])]
                assert held == [list(prompt) for prompt in self.prompts[request]], "not the prompt of its request"
                self.scheduler.finish_prompt(slot)
        elif self.to_generate[slot]:
            for tokens in self.cache[slot]:
                tokens.append(-1)  # a token of the text: never part of a prompt
            self.to_generate[slot] -= 1
        else:
            del self.to_generate[slot], self.to_compute[slot]
            self.scheduler.release(slot)


beginnings = st.sampled_from([(), (7,) * 9, (7,) * 20, (7,) * 40, (7,) * 20 + (8,) * 20, (9,) * 17])
prompt = st.builds(
    lambda start, rest: start + tuple(rest), beginnings, st.lists(st.integers(0, 2), min_size=1, max_size=6)
)
some_prompts = st.lists(st.one_of(st.tuples(prompt), st.tuples(prompt, prompt)), min_size=1, max_size=30)


@given(some_prompts, st.integers(1, 9), st.integers(1, 50), st.booleans())
def test_every_request_runs_once_on_its_own_prompt(
    prompts: list[Prompts], n_slots: int, chunk: int, reuse: bool
) -> None:
    Simulation(prompts, n_slots, reuse).run(chunk)


@given(some_prompts, st.integers(1, 9))
def test_same_requests_same_schedule(prompts: list[Prompts], n_slots: int) -> None:
    first, second = Simulation(prompts, n_slots), Simulation(prompts, n_slots)
    first.run(5)
    second.run(5)
    assert first.order == second.order and first.computed == second.computed


@given(st.integers(1, 40), st.integers(1, 8))
def test_a_prompt_is_computed_once_for_all_its_samples(n_samples: int, n_slots: int) -> None:
    prompt = tuple(range(50))
    simulation = Simulation([(prompt,)] * n_samples, n_slots)
    simulation.run(8)
    assert simulation.computed == len(prompt)


def test_a_common_beginning_is_computed_once_for_all_prompts() -> None:
    start = tuple(range(100))
    prompts: list[Prompts] = [((*start, 200 + index, 1),) for index in range(10)]
    simulation = Simulation(prompts * 3, n_slots=4)
    simulation.run(16)
    assert simulation.computed == 102 + 9 * 2


def test_a_short_beginning_is_not_waited_for() -> None:
    start = tuple(range(MIN_SHARED_TOKENS - 1))
    scheduler = SlotScheduler([((*start, 100 + index),) for index in range(4)], n_slots=4)
    assert len(scheduler.assign()) == 4


def test_a_short_common_beginning_does_not_stop_a_longer_one_from_being_waited_for() -> None:
    """Two families whose openings agree in a few tokens: the opening of each is computed once."""
    few, n_rest = tuple(range(MIN_SHARED_TOKENS - 1)), 20
    families = [(*few, *([family] * n_rest)) for family in (100, 101)]
    simulation = Simulation([((*family, 200 + index),) for family in families for index in range(6)], n_slots=12)
    simulation.run(1000)
    assert simulation.computed == 2 * (len(few) + n_rest) + 12


def test_without_reuse_every_prompt_is_computed() -> None:
    simulation = Simulation([(tuple(range(30)),)] * 5, n_slots=2, reuse=False)
    simulation.run(30)
    assert simulation.computed == 150


def test_common_length() -> None:
    assert common_length((1, 2, 3), (1, 2, 4)) == 2
    assert common_length((1, 2), (1, 2, 3)) == 2
    assert common_length((), (1,)) == 0
