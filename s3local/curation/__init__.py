"""Which of the teacher's texts are kept.

    rules.py            broken texts, echoes, loops, copies of gold
    pair_rules.py       texts that were written on a given one
    shared_runs.py      runs of words that two texts share
    vector_index.py     the nearest of many vectors
    decontamination.py  gold rows that no text may copy
    dedup.py            copies and near-duplicates

Filters take candidates and return what is kept and what is dropped, with reasons.
"""
