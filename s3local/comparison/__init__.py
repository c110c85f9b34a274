"""S3 against its baselines under one budget.

significance.py  which of two methods is better, and how sure that is
baselines.py     what a user would otherwise do with the same gold rows
cache.py         what methods that ask for the same thing share
compare.py       the cells of a comparison, and their summary
"""
