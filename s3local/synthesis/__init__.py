"""What the teacher is asked: rationales, seed examples, and more of what the student got wrong.

    prompts.py        each prompt beside the parser of its reply
    planning.py       planned requests, and candidates from their completions
    rationales.py     reasons that lead to a label
    answer_spans.py   spans of a context that a question could ask for
    seed.py           zero-shot examples, guided by rationales, or written on a given context
    extrapolation.py  examples like a given error

Requests are planned and completions read here; nothing calls a teacher.
"""
