"""Reading and labelling in the browser: people's decisions on synthetic rows, and labels for real texts.

decisions.py   the append-only file of decisions
rows.py        the rows that a page shows: a finished run's, or real texts without labels
selection.py   which real texts to label next
dev_file.py    labelled rows at the end of the task's dev file
desk.py        rows and decisions together: filters, counts, one decision after another
server.py      the local web server, and who may talk to it
page/          the page itself: HTML, CSS and JavaScript
retrain.py     the final students of a run again, with the decisions and with new dev rows
labelling.py   ``label`` and ``suggest``: texts in, the most useful ones first
"""
