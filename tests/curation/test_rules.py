"""The rules: what small teachers write wrong is dropped for its reason, what real rows do is kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.curation.rules import check_rules
from s3local.records import Candidate, Example
from s3local.task.model import Length

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
GOLD = [
    "The harbour was closed for two days after the storm.",
    "A new bridge will link both parts of the town next year.",
    "Our team lost the last match of the season by one goal.",
    "Prices of bread and milk went up again in March.",
]
NAMES = ["local news", "sports", "text"]
LENGTH = Length(unit="characters", min=3, max=10_000)
PROMPTS = ["Write one sentence that could stand in a small local newspaper.", "News about matches and clubs."]


def candidate(text: str, **origin: object) -> Candidate:
    return Candidate(Example("c1", {"text": text}, "sports"), origin)


def reason_of(text: str, gold: list[str] | None = None, length: Length = LENGTH, **origin: object) -> str:
    gold = GOLD if gold is None else gold
    result = check_rules([candidate(text, **origin)], gold=gold, length=length, names=NAMES, prompts=PROMPTS)
    return result.dropped[0].reason if result.dropped else "kept"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The library opens at nine from next week on.", "kept"),
        ("The club\ufffds coach left in spring.", "broken_text"),
        ("The coach\x00 left.", "broken_text"),
        ("", "empty"),
        (" \n ", "empty"),
        ("...!?", "empty"),
        ("No", "too_short"),
        ("1. The library opens at nine.", "list_marker"),
        ("The library opens at nine.\n2) The pool opens at ten.", "list_marker"),
        ("- The library opens at nine.", "list_marker"),
        ("# The library", "list_marker"),
        ("12 people came to the library, 3 - 4 of them late.", "kept"),
        ("Label: The library opens at nine.", "header"),
        ("SPORTS: The pool opens at ten.", "header"),
        ("The pool opens at ten. Local news: true", "header"),
        ("The pool opens at ten.\nLabel：sports", "header"),
        ("Example 2: The pool opens at ten.", "header"),
        ("Here is a sentence about sports: The pool opens.", "header"),
        ("Sure, here is one:\n\nThe pool opens.", "header"),
        ("The mayor's answer: no more money for the pool.", "kept"),
        ("Here is where the old mill stood for a hundred years.", "kept"),
        ("As an AI language model, I have no local news.", "refusal"),
        ("I'm sorry, but I can't write about that club.", "refusal"),
        ("Write one sentence that could stand in a small paper.", "echoes_prompt"),
        ("Sports!", "echoes_prompt"),
        ("The match: 3-2, 4-1, 0-0; (5:5) -- [7/7] *** 8-8 ###", "few_letters"),
        ("Новый мост соединит обе части города.", "wrong_script"),
        ("The bridge 将在明年连接城市的两个部分", "wrong_script"),
        ("the pool is open and the pool is open and the pool is open and the pool is open", "repeats_itself"),
        ("very very very very very very very very good", "repeats_itself"),
        ("the harbour was closed for two days -- after the storm", "copies_gold"),
    ],
)
def test_each_fault_has_its_reason(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_a_text_cut_at_the_token_cap_has_to_end_a_sentence() -> None:
    assert reason_of("The pool opens at ten and the", finish="length") == "unfinished"
    assert reason_of("The pool opens at ten and the", finish="stop") == "kept"
    assert reason_of('He said: "The pool opens at ten."', finish="length") == "kept"
    assert reason_of("The pool opens at ten,", finish="length") == "unfinished"
    chinese = ["城市的新桥将于明年开通。", "昨天的足球比赛因为下雨推迟了。"]
    assert reason_of("图书馆明天九点开门。」", chinese, finish="length") == "kept"
    assert reason_of("图书馆明天九", chinese, finish="length") == "unfinished"


def test_length_limits_are_in_the_tasks_unit_and_both_included() -> None:
    texts = ("pool", " pools ", "poolpool", "poolpools")
    length = Length(unit="characters", min=5, max=8)
    assert [reason_of(text, length=length) for text in texts] == ["too_short", "kept", "kept", "too_long"]
    texts = ("pool", "no pool", "no pool for us", "there is no pool for us")
    length = Length(unit="words", min=2, max=4)
    assert [reason_of(text, length=length) for text in texts] == ["too_short", "kept", "kept", "too_long"]
    assert reason_of("No", length=Length(unit="words", min=1, max=4)) == "kept"


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (["城市的新桥将于明年开通。", "昨天的足球比赛因为下雨推迟了。"], "图书馆从下周起九点开门。"),
        (["この店の料理はとても美味しい。", "カメラは良いがバッテリーが弱い。"], "スマートフォンのケース"),
        (["この店の料理はとても美味しい。", "とても静かな部屋でした。"], "カメラ、東京駅周辺地図"),
        (["Мост откроют в мае.", "Матч отложили из-за дождя."], "Библиотека откроется в девять часов."),
        (["الطعام كان رائعا والخدمة سريعة.", "المباراة تأجلت بسبب المطر."], "المكتبة تفتح في التاسعة."),
        (["यह पुल मई में खुलेगा।", "बारिश के कारण मैच टल गया।"], "पुस्तकालय नौ बजे खुलेगा।"),
        (["สะพานใหม่จะเปิดในเดือนพฤษภาคม", "การแข่งขันเลื่อนเพราะฝนตก"], "ห้องสมุดเปิดเก้าโมง"),
        (["다리가 5월에 열린다.", "비 때문에 경기가 연기됐다."], "도서관은 아홉 시에 연다."),
    ],
)
def test_any_script_is_at_home_where_gold_is_written_in_it(gold: list[str], text: str) -> None:
    assert reason_of(text, gold) == "kept"
    assert reason_of("The library opens at nine.", gold) == "wrong_script"
    assert reason_of(gold[0], gold) == "copies_gold"


def test_loops_are_found_without_spaces_too() -> None:
    chinese = ["城市的新桥将于明年开通。", "昨天的足球比赛因为下雨推迟了。"]
    assert reason_of("电影很好看电影很好看电影很好看电影很好看", chinese) == "repeats_itself"


def test_what_gold_rows_do_is_no_fault() -> None:
    assert reason_of("- milk and bread", [*GOLD, "- butter and eggs"]) == "kept"
    assert reason_of("Sports: the pool", [*GOLD, "Sports: the match"]) == "kept"
    numbers = ["3-2, 4-1 (5:5) a", "0-0; [7/7] ** b"]
    assert reason_of("4-4, 3-1 (2:2) c", [*GOLD, *numbers]) == "kept"
    assert reason_of("Нет ничего нового.", [*GOLD, "Мост откроют в мае."]) == "kept"


def test_one_odd_gold_row_among_many_is_no_habit() -> None:
    many = [f"The harbour was closed on day {number} of the storm." for number in range(99)]
    assert reason_of("- milk and bread", [*many, "- butter and eggs"]) == "list_marker"


def test_without_gold_the_script_is_not_judged() -> None:
    assert reason_of("Новый мост соединит обе части города.", []) == "kept"


def test_only_the_written_field_is_checked() -> None:
    row = Candidate(Example("p", {"premise": "1. " + GOLD[0], "hypothesis": "The harbour was open."}, "no"))
    assert check_rules([row], gold=["It rained."], compared_field="hypothesis").kept == [row]
    assert check_rules([row], gold=["It rained."]).dropped[0].reason == "list_marker"


@given(st.lists(st.text(), max_size=20))
def test_kept_and_dropped_are_every_candidate_in_order(texts: list[str]) -> None:
    rows = [
        Candidate(Example(str(place), {"text": text}, "x"), {"finish": "length"}) for place, text in enumerate(texts)
    ]
    result = check_rules(rows, gold=GOLD, names=NAMES, prompts=PROMPTS)
    kept, dropped = list(result.kept), [drop.candidate for drop in result.dropped]
    assert sorted(kept + dropped, key=lambda row: int(row.example.id)) == rows
    assert kept == [row for row in rows if row not in dropped]
    assert all(drop.reason and isinstance(drop.score, float) and drop.detail for drop in result.dropped)


@given(st.lists(st.text(), max_size=8), st.integers(0, 8))
def test_a_verdict_depends_on_its_candidate_alone(texts: list[str], cut: int) -> None:
    rows = [candidate(text) for text in texts]
    whole = check_rules(rows, gold=GOLD)
    parts = [check_rules(part, gold=GOLD) for part in (rows[:cut], rows[cut:])]
    assert whole.kept == parts[0].kept + parts[1].kept
    assert whole.dropped == parts[0].dropped + parts[1].dropped


@pytest.mark.datasets
@pytest.mark.parametrize(
    ("name", "field"), [("sst2", "text"), ("trec", "text"), ("ag_news", "text"), ("adversarial_qa", "question")]
)
def test_real_rows_are_kept(name: str, field: str) -> None:
    """With 60 gold rows, no rule takes more than 1 of 200 rows that people wrote."""
    if not DATASETS.is_dir():
        pytest.skip("needs ../shared/datasets, which is not here")
    rows = {
        split: [json.loads(line)[field] for line in (DATASETS / name / f"{split}.jsonl").open(encoding="utf-8")]
        for split in ("pool", "test")
    }
    gold = Random(0).sample(rows["pool"], 60)
    others = Random(1).sample([text for text in rows["test"] if text not in gold], 400)
    labels = ["positive", "negative", "world", "sports", "business", "description", "entity", "human", "location"]
    result = check_rules([candidate(text) for text in others], gold=gold, names=labels)
    assert len(result.dropped) <= 2, Counter(drop.reason for drop in result.dropped)


ENGLISH = [
    "The match was over before the second half had begun and nobody in the stands was happy with it.",
    "It was the first time that the club had lost a game at home in the last two years.",
    "The mayor said that the bridge will be closed for a week and that there is no other way to the island.",
    "In the end it was the rain that made them stop, and the rest of the race was put off to the next day.",
    "There is a plan for a new school in the north of the town, but it is not clear who is to pay for it.",
    "He had the ball at his feet for most of the game and he did not know what to do with it.",
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The harbour will be open again in the spring, but only for the small boats of the island.", "kept"),
        ("Der Hafen wird im Frühjahr wieder geöffnet, aber nur für die kleinen Boote der Insel.", "wrong_language"),
        (
            "Le port ouvrira de nouveau au printemps, mais pour les petits bateaux des voisins.",
            "wrong_language",
        ),
        ("El puerto abrirá de nuevo en primavera, pero sólo para los barcos pequeños de la isla.", "wrong_language"),
        ("Der Hafen ist zu.", "kept"),
        ("Порт снова откроется весной, но только для небольших лодок с острова и для рыбаков.", "wrong_script"),
        ("I'm sorry, but I can't assist with that request.", "refusal"),
        ("I cannot fulfill this.", "refusal"),
        ("This is a sentence that carries the label because it names a club.", "about_task"),
        ("A sentence labelled as sports has to name a club.", "about_task"),
    ],
)
def test_other_languages_refusals_and_talk_about_the_task_are_dropped(text: str, reason: str) -> None:
    assert reason_of(text, ENGLISH) == reason


def test_gold_in_two_languages_lets_both_pass() -> None:
    german = ["Der Hafen wird im Frühjahr wieder geöffnet, aber nur für die kleinen Boote der Insel."]
    text = "Der Verein wird im Herbst wieder spielen, aber nur auf dem Platz der Stadt."
    assert reason_of(text, ENGLISH + german) == "kept"
