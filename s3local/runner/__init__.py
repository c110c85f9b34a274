"""Run orchestration: one run, from the first text to the scores on test.

settings.py         every setting that changes a result, with its default
state.py            the run folder: configuration, artefacts, markers
models.py           the models of a run, found before anything starts
task_kinds.py       what differs between single texts, pairs and questions
context.py          what all stages of a run use
generation.py       the shards of a round: plan, generate, filter, count
relabel.py          judges and label model: what label a synthetic text probably has
model_selection.py  how far synthetic rows help, by cross-validation on dev
finish.py           the final students and their average
loop.py             rationales, rounds, end
forecast.py         how long a run takes, and how much of it is left
"""
