"""The order of things: one run, from the first text to the test, and the comparison of several.

    loop.py        seed, rounds, test; finish.py is the end of it, generation.py the shards of a round
    kinds.py       what differs between single texts, pairs and questions
    settings.py    every choice; models.py finds the models, state.py keeps the folder, workbench.py what stages share
    channel.py     the teacher as a judge
    compare.py     S3 against its rivals: rivals.py, and sharing.py for what they have in common

The only part that knows there is a next stage. Knows nothing of click or tables.
"""
