"""Which of the teacher's texts are kept.

    rules.py            rules for all texts: broken, echoing, repetitive, copied from gold
    pair_rules.py       rules for pairs: copies of the source text, non-questions, missing spans
    shared_runs.py      long runs of words that two texts share
    vector_index.py     nearest-neighbour search
    decontamination.py  gold rows that no text may copy
    dedup.py            exact and near-duplicates

Filters take candidates and return what is kept and what is dropped, with reasons.
"""
