"""S3 against its baselines under one budget.

significance.py  intervals, paired tests and verdicts on correct and wrong predictions
methods.py       the methods, the runs that they are read from, and the defaults
baselines.py     what the same gold rows give without synthetic rows
cache.py         calls of the teacher and judges that several methods share
cells.py         one method with one seed and one number of gold rows
summary.py       means, intervals and comparisons of cells
compare.py       all cells of a comparison, and its folder
"""
