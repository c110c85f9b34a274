"""The task: what a user wants to be classified, and the rows that show it.

yaml_file.py  YAML as text, with lines for errors
model.py      ``Task``, read from task.yaml
rows.py       gold rows in JSON Lines, CSV or TSV
check.py      counts, lengths and warnings
starter.py    the folder that ``init`` writes
subsample.py  random samples of rows
"""
