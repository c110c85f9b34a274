"""The survey names what is here."""

from __future__ import annotations

from s3local.doctor import describe


def test_the_survey_names_versions_machine_and_models() -> None:
    facts = {fact.name: fact.value for fact in describe(speed=False)}
    assert {"s3local", "processor", "memory", "graphics card", "torch", "model all-minilm-l6-v2"} <= set(facts)
    assert all(facts.values())
