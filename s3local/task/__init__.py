"""The task: what a user wants to classify, and the labelled rows.

yaml_file.py  YAML as text, with the line of every key
model.py      ``Task``, read from task.yaml
rows.py       gold rows in JSON Lines, CSV or TSV
check.py      counts, lengths and warnings
starter.py    the task folder that ``init`` writes
subsample.py  random samples of rows
"""
