"""What becomes of the teacher's texts: which are dropped, and how probable each label of the others is.

    rules.py             broken texts, echoes, loops, copies of gold
    given.py             texts that were written on a given one
    dedup.py             near-duplicates; neighbours.py finds them, decontamination.py and overlap.py know gold
    label_check.py       several judges' joint opinion of the labels

Filters take candidates and return what is kept and what is dropped, with reasons. Knows nothing of how texts are
written, and trains nothing.
"""
