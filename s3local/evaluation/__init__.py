"""Evaluation: metrics of predictions, the rows that count as errors, and the gap between synthetic and gold texts.

metrics.py           accuracy and F1 of labels
squad.py             exact match and F1 of answers
errors.py            the rows to extrapolate
calibration.py       temperature scaling
cross_validation.py  folds of gold rows
gap.py               the distance between synthetic and gold texts, and their diversity
"""
