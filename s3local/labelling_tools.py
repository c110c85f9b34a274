"""Rows as labelling tools export them, made plain: Label Studio, doccano, Prodigy, Argilla.

A plain row has each text and the label under a key of its own. A row that nobody answered, that was rejected, or that
has several answers keeps its texts; ``Unanswered`` says why it has no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from s3local.records import Row
from s3local.wording import counted, listed

PRODIGY_ANSWERS = ("accept", "reject", "ignore")


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain row; ``unanswered`` says why it has no label that counts, and is empty if it has one."""

    values: Row
    unanswered: str = ""


@dataclass(slots=True)
class _Answers:
    """The answers of all annotators to one question."""

    found: list[str] = field(default_factory=list)

    def single(self) -> tuple[str | None, str]:
        """The one answer that all give, else None and the reason."""
        distinct = list(dict.fromkeys(self.found))
        if len(distinct) == 1:
            return distinct[0], ""
        if not distinct:
            return None, "no answer"
        return None, f"{counted(len(distinct), 'different answer')}: {listed(distinct)}"


def plain_row(row: Row) -> Plain:
    """``row`` without the wrapping of the tool that exported it; any other row as it is.

    Raises ``ValueError`` for a wrapping whose parts are not what the tool writes.
    """
    try:
        return _plain(row)
    except (AttributeError, TypeError, ValueError) as exc:
        keys = listed([key for key in row if key not in ("id", "text")][:4])
        raise ValueError(f"looks like the export of a labelling tool, but its parts {keys} have another form") from exc


def _plain(row: Row) -> Plain:
    if isinstance(row.get("data"), Mapping) and ("annotations" in row or "completions" in row):
        return _of_label_studio(row)
    if isinstance(row.get("fields"), Mapping) and ("responses" in row or "suggestions" in row):
        return _of_argilla(row)
    if any(key.endswith(".responses") for key in row):
        return _of_flat_argilla(row)
    if "annotation" in row and "annotation_agent" in row and "status" in row:
        return _of_first_argilla(row)
    if row.get("answer") in PRODIGY_ANSWERS and ("label" in row or "accept" in row or "_input_hash" in row):
        return _of_prodigy(row)
    return _of_doccano(row)


def single_label(value: object) -> tuple[object, str]:
    """A label that may stand in a list: the label of a list of one, else None and the reason. Others as they are."""
    if not isinstance(value, list):
        return value, ""
    if len(value) == 1 and isinstance(value[0], str):
        return value[0], ""
    if not value:
        return None, "no answer"
    if all(isinstance(entry, str) for entry in value):
        return None, f"{counted(len(value), 'different answer')}: {listed(value)}"
    return None, "marked spans in place of a label"


def _of_label_studio(row: Row) -> Plain:
    """A task of Label Studio; each question of its form is a key, and "label" too if it is the only one."""
    values: Row = {"id": row["id"]} if "id" in row else {}
    values.update(row["data"])
    answers: dict[str, _Answers] = {}
    cancelled = 0
    for annotation in row.get("annotations") or row.get("completions") or []:
        if annotation.get("was_cancelled"):
            cancelled += 1
            continue
        for result in annotation.get("result") or []:
            name = str(result.get("from_name", "label"))
            chosen = _choices(result.get("value"))
            if chosen:
                answers.setdefault(name, _Answers()).found.extend(chosen)
    if not answers:
        values.pop("label", None)  # a column of what was labelled, which nobody confirmed
        return Plain(values, "skipped by the annotator" if cancelled else "no answer")
    return _with_answers(values, answers)


def _choices(value: object) -> list[str]:
    """The choices in a result of Label Studio; a path of a taxonomy is its last name."""
    if not isinstance(value, Mapping):
        return []
    if isinstance(value.get("choices"), list):
        return [str(choice) for choice in value["choices"]]
    if isinstance(value.get("taxonomy"), list):
        return [str(path[-1]) for path in value["taxonomy"] if isinstance(path, list) and path]
    if isinstance(value.get("rating"), int | float):
        return [str(value["rating"])]
    return []


def _of_prodigy(row: Row) -> Plain:
    values = {key: value for key, value in row.items() if key not in ("answer", "accept", "options")}
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    if row["answer"] != "accept":
        values.pop("label", None)
        return Plain(values, "rejected" if row["answer"] == "reject" else "ignored")
    if "accept" in row:
        label, reason = single_label(row["accept"])
        values["label"] = label
        return Plain(values, reason)
    if values.get("label") is None:
        return Plain(values, "no answer")
    return Plain(values)


def _of_argilla(row: Row) -> Plain:
    """A record of Argilla 2, nested."""
    values: Row = {"id": row["id"]} if row.get("id") is not None else {}
    values.update(row["fields"])
    answers = {name: _Answers(_submitted(given)) for name, given in (row.get("responses") or {}).items()}
    if row.get("status") == "discarded":
        return Plain(values, "discarded")
    if not any(answer.found for answer in answers.values()):
        return Plain(values, "no answer")
    return _with_answers(values, answers)


def _submitted(given: object) -> list[str]:
    """The values of the responses that were submitted."""
    entries = given if isinstance(given, list) else [given]
    found: list[str] = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            found += _texts(entry)
        elif entry.get("status") in (None, "submitted"):
            found += _texts(entry.get("value"))
    return found


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def _of_flat_argilla(row: Row) -> Plain:
    """A record of Argilla 2 as ``to_list(flatten=True)`` or a table of the hub has it."""
    values: Row = {}
    answers: dict[str, _Answers] = {}
    for key, value in row.items():
        name, dot, rest = key.partition(".")
        if rest == "responses":
            states = row.get(f"{key}.status") or ["submitted"] * len(value or [])
            given = [entry for entry, state in zip(value or [], states, strict=False) if state == "submitted"]
            answers[name] = _Answers([text for entry in given for text in _texts(entry)])
        elif not dot and key not in ("status", "_server_id"):
            values[key] = value
    if row.get("status") == "discarded":
        return Plain(values, "discarded")
    return _with_answers(values, answers)


def _of_first_argilla(row: Row) -> Plain:
    """A text classification record of Argilla 1."""
    values: Row = {"id": row["id"]} if row.get("id") is not None else {}
    values.update(row.get("inputs") or {})
    if isinstance(row.get("text"), str):
        values["text"] = row["text"]
    if row["status"] == "Discarded":
        return Plain(values, "discarded")
    label, reason = single_label(row["annotation"])
    if label is None:
        return Plain(values, reason or "no answer")
    return Plain({**values, "label": label})


def _with_answers(values: Row, answers: Mapping[str, _Answers]) -> Plain:
    """``values`` with the answer to each question under its name, and as "label" if there is one question."""
    reasons = []
    for name, given in answers.items():
        answer, reason = given.single()
        if answer is not None:
            values[name] = answer
        else:
            reasons.append(reason)
        if len(answers) == 1:
            values.pop("label", None)
            if answer is not None:
                values["label"] = answer
    return Plain(values, "; ".join(reasons))


def _of_doccano(row: Row) -> Plain:
    """A row whose "label" or "labels" is a list, as doccano writes it; any other row as it is."""
    key = "label" if "label" in row else "labels"
    if not isinstance(row.get(key), list):
        return Plain(row)
    label, reason = single_label(row[key])
    return Plain(row, reason) if label is None else Plain({**row, "label": label})
