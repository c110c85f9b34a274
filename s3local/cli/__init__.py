"""The command line. Each command parses its arguments, calls one function and prints the result.

terminal.py  progress, tables and JSON on the screen
completion.py  ``completion``, and the names that arguments are completed with
options.py   arguments and options that several commands share
models.py    ``models``: list, fetch, import, verify, optimize
task.py      ``init``, ``check``
data.py      ``data draw``
run.py  compare.py  predict.py  report.py
review.py    ``review``, ``label``, ``suggest``, ``retrain``
main.py      the program: all commands, and how errors are shown
"""
