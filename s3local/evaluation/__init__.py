"""What is measured: how good predictions are, which rows count as errors, and how far synthetic texts are from gold.

    metrics.py  squad.py  labels and answer spans
    errors.py             the rows to extrapolate
    cross_validation.py   folds of gold rows
    gap.py                the distance between synthetic and gold texts

Numbers in, numbers out.
"""
