"""The lane schedule against a cache of tokens: whatever is asked, every lane holds its own prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from s3local.teacher.scheduler import MIN_SHARED_TOKENS, LaneSchedule, Prompts, common_length


@dataclass
class Simulation:
    """Carries a schedule out on lists of tokens; every text is as long as the request's number modulo four."""

    prompts: list[Prompts]
    n_lanes: int
    sharing: bool = True
    computed: int = 0
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = LaneSchedule(self.prompts, self.n_lanes, sharing=self.sharing)
        self.streams: list[list[list[int]]] = [[[], []] for _ in range(self.n_lanes)]
        self.still_to_feed: dict[int, list[list[int]]] = {}
        self.still_to_write: dict[int, int] = {}

    def run(self, chunk: int) -> None:
        while True:
            while assignments := self.schedule.assign():
                for assignment in assignments:
                    self._carry_out(assignment)
            if not self.still_to_write:
                break
            self._compact()
            for lane in sorted(self.still_to_write):
                self._step(lane, chunk)
        assert sorted(self.order) == list(range(len(self.prompts)))

    def _carry_out(self, assignment) -> None:  # type: ignore[no-untyped-def]
        lane, prompts = assignment.lane, self.prompts[assignment.request]
        assert lane not in self.still_to_write, "a lane was given twice"
        assert self.schedule.groups[assignment.group].prompts == prompts
        assert len(assignment.shared) == len(prompts)
        self.order.append(assignment.request)
        pending = []
        for track, (prompt, shared) in enumerate(zip(prompts, assignment.shared, strict=True)):
            held = self.streams[assignment.source][track]
            assert held[:shared] == list(prompt[:shared]), "the source does not hold what is claimed"
            assert shared == len(prompt) if not assignment.leads else shared < len(prompt)
            assert shared == 0 or self.sharing
            self.streams[lane][track] = held[:shared]
            pending.append(list(prompt[shared:]))
            self.computed += len(prompt) - shared
        self.still_to_feed[lane] = pending
        self.still_to_write[lane] = assignment.request % 4

    def _compact(self) -> None:
        moves = self.schedule.compact()
        for source, target in moves:
            assert target not in self.still_to_write
            self.streams[target] = [list(track) for track in self.streams[source]]
            self.still_to_feed[target] = self.still_to_feed.pop(source)
            self.still_to_write[target] = self.still_to_write.pop(source)
        assert sorted(self.still_to_write) == list(range(len(self.still_to_write))), "active lanes are not adjacent"

    def _step(self, lane: int, chunk: int) -> None:
        pending = self.still_to_feed[lane]
        if any(pending):
            for track, tokens in enumerate(pending):
                self.streams[lane][track] += tokens[:chunk]
                del tokens[:chunk]
            if not any(pending):
                request = self.schedule.lanes[lane].request
                assert request is not None
                held = self.streams[lane][: len(self.prompts[request])]
                assert held == [list(prompt) for prompt in self.prompts[request]], "not the prompt of its request"
                self.schedule.finish_prompt(lane)
        elif self.still_to_write[lane]:
            for track in self.streams[lane]:
                track.append(-1)  # a token of the text: never part of a prompt
            self.still_to_write[lane] -= 1
        else:
            del self.still_to_write[lane], self.still_to_feed[lane]
            self.schedule.release(lane)


beginnings = st.sampled_from([(), (7,) * 9, (7,) * 20, (7,) * 40, (7,) * 20 + (8,) * 20, (9,) * 17])
prompt = st.builds(
    lambda start, rest: start + tuple(rest), beginnings, st.lists(st.integers(0, 2), min_size=1, max_size=6)
)
some_prompts = st.lists(st.one_of(st.tuples(prompt), st.tuples(prompt, prompt)), min_size=1, max_size=30)


@given(some_prompts, st.integers(1, 9), st.integers(1, 50), st.booleans())
def test_every_request_runs_once_on_its_own_prompt(
    prompts: list[Prompts], n_lanes: int, chunk: int, sharing: bool
) -> None:
    Simulation(prompts, n_lanes, sharing).run(chunk)


@given(some_prompts, st.integers(1, 9))
def test_same_requests_same_schedule(prompts: list[Prompts], n_lanes: int) -> None:
    first, second = Simulation(prompts, n_lanes), Simulation(prompts, n_lanes)
    first.run(5)
    second.run(5)
    assert first.order == second.order and first.computed == second.computed


@given(st.integers(1, 40), st.integers(1, 8))
def test_a_prompt_is_computed_once_for_all_its_samples(n_samples: int, n_lanes: int) -> None:
    prompt = tuple(range(50))
    simulation = Simulation([(prompt,)] * n_samples, n_lanes)
    simulation.run(8)
    assert simulation.computed == len(prompt)


def test_a_common_beginning_is_computed_once_for_all_prompts() -> None:
    start = tuple(range(100))
    prompts: list[Prompts] = [((*start, 200 + index, 1),) for index in range(10)]
    simulation = Simulation(prompts * 3, n_lanes=4)
    simulation.run(16)
    assert simulation.computed == 102 + 9 * 2


def test_a_short_beginning_is_not_waited_for() -> None:
    start = tuple(range(MIN_SHARED_TOKENS - 1))
    schedule = LaneSchedule([((*start, 100 + index),) for index in range(4)], n_lanes=4)
    assert len(schedule.assign()) == 4


def test_a_short_common_beginning_does_not_stop_a_longer_one_from_being_waited_for() -> None:
    """Two families whose openings agree in a few tokens: the opening of each is computed once."""
    few, n_rest = tuple(range(MIN_SHARED_TOKENS - 1)), 20
    families = [(*few, *([family] * n_rest)) for family in (100, 101)]
    simulation = Simulation([((*family, 200 + index),) for family in families for index in range(6)], n_lanes=12)
    simulation.run(1000)
    assert simulation.computed == 2 * (len(few) + n_rest) + 12


def test_without_sharing_everything_is_computed() -> None:
    simulation = Simulation([(tuple(range(30)),)] * 5, n_lanes=2, sharing=False)
    simulation.run(30)
    assert simulation.computed == 150


def test_common_length() -> None:
    assert common_length((1, 2, 3), (1, 2, 4)) == 2
    assert common_length((1, 2), (1, 2, 3)) == 2
    assert common_length((), (1,)) == 0
