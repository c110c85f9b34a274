"""Prompts: a task may bring its own, what is too long is shortened, and single texts are asked for as ever."""

from __future__ import annotations

import pytest

from s3local.records import SPAN, Answer, Example
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.task.model import Label, Length, Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Sampling

LABELS = (
    Label(name="fault", description="Something broke.", phrase="that report a fault"),
    Label(name="praise", description="The sender is pleased."),
)
TEXTS = Task(name="shop", texts="messages to a shop", labels=LABELS)
PAIR = Task(
    name="p", kind="pair", texts="claims about a note", fields=("house_note", "claim"), labels=LABELS, language="German"
)
SPANS = Task(name="s", kind="extractive_qa", texts="questions about a report", fields=("report", "question"))


def prompts(task: Task, style: str = "list", tokens: int = 2048) -> Prompts:
    teacher = FakeTeacher()
    return Prompts(task, style, 40, teacher.chat, teacher.count_tokens, tokens)  # type: ignore[arg-type]


def single(*texts: str) -> list[Example]:
    return [Example(str(n), {"text": text}, "fault") for n, text in enumerate(texts)]


def test_single_texts_are_asked_for_in_a_list() -> None:
    seed = 'A list of messages to a shop that report a fault, each in the words of its writer:\n\n1. "'
    assert prompts(TEXTS).seed(LABELS[0], []).text == seed
    assert prompts(TEXTS).seed(LABELS[0], ["noise", "smoke"]).text == f"(noise; smoke)\n\n{seed}"
    *shots, error = single("it broke", "no\nlight", "too loud")
    prompt = prompts(TEXTS).extrapolation("fault", shots, error)
    assert prompt.text == ("A list of messages to a shop that report a fault:\n\n- it broke\n- no light\n- too loud\n-")
    assert (prompt.stop, prompt.max_tokens) == (("\n",), 40)


def test_a_pair_is_asked_for_below_what_is_given() -> None:
    prompt = prompts(PAIR).seed_on("fault", {"house_note": "the lamp\nis out"})
    assert prompt.text == 'House note: the lamp is out\n\nA list of claims about a note that report a fault:\n\n1. "'
    rows = [Example(str(n), {"house_note": f"note {n}", "claim": f"claim {n}"}, "fault") for n in range(2)]
    assert (
        prompts(PAIR)
        .extrapolation("fault", rows[:1], rows[1])
        .text.endswith("House note: note 0\n- claim 0\n\nHouse note: note 1\n- claim 1\n-")
    )


def test_a_question_is_asked_for_by_its_answer() -> None:
    prompt = prompts(SPANS).seed_on(SPAN, {"report": "Ada built it."}, "Ada")
    assert prompt.text.startswith("Report: Ada built it.\n\n")
    assert 'whose answer is "Ada"' in prompt.text
    row = Example("q", {"report": "Ada built it.", "question": "Who?"}, SPAN, (Answer("Ada", 0),))
    assert prompts(SPANS).extrapolation(SPAN, [], row).text.endswith("Report: Ada built it.\nAnswer: Ada\n- Who?\n-")
    assert "Question: Who?" in prompts(SPANS).answer("Ada built it.", "Who?").text


def test_a_chat_answer_can_be_begun_by_a_dash() -> None:
    *shots, error = single("it broke", "too loud")
    chat, begun = (prompts(TEXTS, style).extrapolation("fault", shots, error) for style in ("chat", "prefill"))
    assert begun.text == f"{chat.text}-" and begun.special
    assert (chat.stop, begun.stop) == ((), ("\n",))
    long = prompts(TEXTS, "prefill").extrapolation("fault", shots, error, "word " * 30)
    assert long.stop == () and "about 30 words" in long.text


@pytest.mark.parametrize("task", [TEXTS, PAIR, SPANS], ids=["texts", "pair", "spans"])
def test_the_chat_style_names_the_language_and_leaves_nothing_open(task: Task) -> None:
    label = task.groups[0]
    row = Example("q", dict.fromkeys(task.fields, "Ada built it."), label, (Answer("Ada", 0),) * (not task.labels))
    made = [prompts(task, "chat").extrapolation(label, [row], row)]
    if task.source_fields:
        made.append(prompts(task, "chat").seed_on(label, {task.source_fields[0]: "Ada built it."}, "Ada"))
    else:
        made.append(prompts(task, "chat").seed(LABELS[0], []))
    for prompt in made:
        assert f"Write in {task.language}" in prompt.text
        assert "$" not in prompt.text
        assert prompt.special


def test_a_task_brings_its_own_prompts() -> None:
    own = {"seed": "Costs $$5: $phrase in $language$reasons\n", "extrapolation": "More of ${label}:\n$shots\n-"}
    task = Task(name="shop", texts="messages", labels=LABELS, prompts=own)
    assert prompts(task).seed(LABELS[0], ["noise"]).text == "Costs $5: that report a fault in English (noise)\n"
    assert prompts(task).extrapolation("fault", [], single("it broke")[0]).text == "More of fault:\n- it broke\n-"
    assert prompts(task, "chat").seed(LABELS[0], []).text == (
        "user: Costs $5: that report a fault in English\n\nassistant:"
    )
    assert prompts(task).rationale(LABELS[0]).text == prompts(TEXTS).rationale(LABELS[0]).text.replace(
        "messages to a shop", "messages"
    )
    pair = PAIR.model_copy(update={"prompts": task.prompts.model_copy(update={"seed": "$given_name/$written_name"})})
    assert prompts(pair).seed_on("fault", {"house_note": "x"}).text == "house note/claim"


def test_shots_and_then_texts_make_room() -> None:
    *shots, error = single("a " * 30, "b " * 90, "c " * 30, "d " * 30)
    assert "b b" in prompts(TEXTS, tokens=500).extrapolation("fault", shots, error).text
    without_longest = prompts(TEXTS, tokens=120).extrapolation("fault", shots, error).text
    assert "b b" not in without_longest
    assert "a a" in without_longest and "c c" in without_longest
    (long,) = single("d " * 2000)
    cut = prompts(TEXTS, tokens=300).extrapolation("fault", shots, long).text
    assert FakeTeacher().count_tokens(cut) <= 300
    assert cut.count("d ") > 150
    given = prompts(PAIR, tokens=300).seed_on("fault", {"house_note": "e " * 2000}).text
    assert FakeTeacher().count_tokens(given) <= 300
    assert prompts(TEXTS, tokens=5).extrapolation("fault", [], single("f " * 50)[0]).text  # nothing left to cut


def test_what_a_text_is_set_against_and_what_is_read_fit_too() -> None:
    tight = prompts(PAIR, tokens=120)
    note = {"house_note": "the lamp is out " * 200}
    assert tight.count_tokens(tight.contrast("praise", [], note).text) <= 120
    tight = prompts(TEXTS, tokens=120)
    assert tight.count_tokens(tight.entry("the lamp is out " * 200)) <= 120
    assert tight.entry("the lamp\nis out") == " the lamp is out\n"
    texts = ["it broke", "no light " * 80]
    assert tight.scoring(LABELS[0], texts) == tight.scoring(LABELS[0], texts[:1])


def test_white_space_is_no_text_to_cut() -> None:
    tight = prompts(PAIR, tokens=120)
    prompt = tight.seed_on("fault", {"house_note": " " * 900 + "the lamp is out"})
    assert "the lamp is out" in prompt.text


def test_the_cap_leaves_room_for_the_longest_text_in_any_unit() -> None:
    count, gold = FakeTeacher().count_tokens, ["one two three", "four five six seven"]
    assert token_cap(gold, Length(unit="words", min=2, max=9), count) >= 9
    assert token_cap(gold, Length(unit="characters", min=2, max=64), count) >= 14


def test_a_long_text_is_asked_for_in_full_and_ends_with_a_sentence() -> None:
    prompt = prompts(TEXTS).seed(LABELS[0], [], "word " * 30)
    assert "about 30 words long" in prompt.text
    assert prompt.stop == ()
    (error,) = single("short")
    for asked in (prompt, prompts(TEXTS).extrapolation("fault", [], error, "word " * 30)):
        request = asked.request(0, Sampling())
        assert 25 <= request.min_tokens < 30 < request.max_tokens <= 35
        assert request.sampling.repetition_penalty > 1
    told = prompts(TEXTS, "chat").extrapolation("fault", [], error, "word " * 30)
    assert "about 30 words" in told.text and told.min_tokens == 0  # may end earlier
    assert "about 30 characters long" in prompts(TEXTS).seed(LABELS[0], [], "电" * 30).text  # words not apart
    assert "about" not in prompts(TEXTS, "chat").seed(LABELS[0], []).text
    for made in (prompts(PAIR, "chat").seed_on("fault", {"house_note": "x"}, "", "word " * 30), told):
        assert "write about 30 words, in full." in made.text
    chosen = Sampling(repetition_penalty=1.3)
    assert prompt.request(0, chosen).sampling == told.request(0, chosen).sampling == chosen
    assert told.request(0, Sampling()).sampling == Sampling()
    assert prompts(TEXTS).seed(LABELS[0], [], "word " * 300).max_tokens == 40


def test_a_contrast_prompt_that_is_too_long_loses_its_longest_rows() -> None:
    rows = single("mild", "word " * 200)
    text = prompts(TEXTS, tokens=60).contrast("fault", rows, {}).text
    assert "mild" in text
    assert "word" not in text
