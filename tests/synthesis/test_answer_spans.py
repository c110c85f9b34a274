"""Spans to ask for: they stand where they say, rules find what they promise, and no language is needed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from s3local.synthesis.answer_spans import propose_answers

MILL = (
    "In 1870 the old mill on Brook Street was sold to Ada van Stone for $5,000. The mill burnt down on 12 March 1899, "
    "which the paper called “a dark day” for the town. Stone kept 40% of the land and 19th century tools."
)


def found(context: str) -> dict[str, set[str]]:
    (spans,) = propose_answers([context])
    return {rule: {span.text for span in some} for rule, some in spans.items()}


def test_each_rule_finds_what_it_promises() -> None:
    spans = found(MILL)
    assert spans["quotes"] == {"a dark day"}
    assert {"1870", "$5,000", "12 March 1899", "40%", "19th", "March 1899"} <= spans["numbers"]
    assert {"Brook Street", "Ada van Stone"} <= spans["names"]
    assert {"paper called", "town"} <= spans["phrases"]
    assert not spans["names"] & {"In", "The"}


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from('Ab cD1,."“”长城是 的é\n5%$-'), max_size=80), max_size=12))
def test_every_span_stands_in_its_context_once(contexts: list[str]) -> None:
    proposed = propose_answers(contexts)
    assert len(proposed) == len(contexts)
    for context, spans in zip(contexts, proposed, strict=True):
        places = [(span.start, span.text) for some in spans.values() for span in some]
        assert len(places) == len(set(places))
        for some in spans.values():
            assert some
            for span in some:
                assert span.stands_in(context)
                assert span.text.strip() == span.text != ""


def test_frequent_short_words_bound_phrases_in_any_language() -> None:
    german = [
        "Der Bau der alten Mühle begann im Winter.",
        "Im Hafen der Stadt liegt der Kahn.",
        "Der Turm der Kirche wurde im Krieg zerstört.",
        "Im Garten der Schule wächst der Hopfen.",
        "Der Preis der Ware sank im Herbst.",
        "Im Keller der Burg lag der Wein.",
        "Der Lauf der Elbe wurde im Norden verlegt.",
        "Im Archiv der Firma fand sich der Plan.",
    ]
    spans = propose_answers(german)[0]
    texts = {span.text for some in spans.values() for span in some}
    assert {"alten Mühle begann", "Winter"} <= texts
    assert not texts & {"Der", "der", "Im", "im"}


def test_a_script_without_spaces_is_read_by_characters() -> None:
    contexts = [
        "阿斯旺的水坝在1970年建成。",
        "长城的砖石来自北方。",
        "她的母亲在医院工作。",
        "小镇的图书馆今天关门。",
        "海港的渔船清晨出发。",
        "他在车站的书店等候。",
        "老师的问题很难。",
        "市场的蔬菜便宜。",
    ]
    spans = propose_answers(contexts)[0]
    assert {span.text for span in spans["numbers"]} == {"1970"}
    assert {"阿斯旺", "水坝"} <= {span.text for span in spans["phrases"]}
    assert all(len(span.text) <= 12 for span in spans["phrases"])


def test_without_anything_to_ask_for_there_is_nothing() -> None:
    assert propose_answers(["a b", ""]) == [{}, {}]
    assert propose_answers([]) == []
