"""What is measured: how good predictions are, which rows count as errors, and whether synthetic rows help.

    metrics.py  answers.py   labels and answer spans
    errors.py                the rows to extrapolate
    folds.py    guard.py     cross-validation on gold, and what is handed over
    gap.py                   the distance between synthetic and gold texts
    comparison.py            which of two methods is better

Numbers in, numbers out. Knows nothing of run folders, and trains nothing.
"""
