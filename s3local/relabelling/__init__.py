"""Relabelling: what label a text probably has, whatever the teacher was asked for.

judge.py               an encoder trained on gold rows by supervised contrast, with a linear head
teacher_likelihood.py  the label under which the teacher finds a text likeliest, a baseline of comparisons
label_model.py         label probabilities from the judges and the requested labels
"""
