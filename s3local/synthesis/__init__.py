"""The requests to the teacher, and how its completions are read: rationales, seed examples, error extrapolation.

    prompts.py        each prompt, in two styles
    replies.py        what surrounds the text in a reply is cut off
    planning.py       planned requests, and candidates from their completions
    rationales.py     reasons that lead to a label
    answer_spans.py   spans of a context that a question could ask for
    seed.py           zero-shot examples, led by rationales or written on a context
    extrapolation.py  examples like a dev row that the student got wrong

Nothing here calls a teacher.
"""
