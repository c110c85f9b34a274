"""Run orchestration: one run, from the first text to the test.

    settings.py         every choice that changes a result, with its default
    state.py            the run folder; models.py finds the models; context.py is what the stages of a run share
    task_kinds.py       what differs between single texts, pairs and questions
    generation.py       the shards of a round
    model_selection.py  how far synthetic rows help, by cross-validation
    finish.py           relabelling, the final students and their selection
    loop.py             seed, rounds, test

The only part that knows there is a next stage.
"""
