"""The teacher: requests in, completions out.

protocol.py     requests, completions and the ``Teacher`` protocol
fake.py         a scripted teacher for fast tests
sampling.py     one token from one row of logits
llama_cache.py  llama.cpp's model and its cache of sequences
writing.py      one text while it is generated
scheduler.py    which request runs in which slot, and what it reuses
batch.py        one call of the engine
scoring.py      log-likelihoods of given texts
engine.py       the batched llama.cpp engine
server.py       a server with the OpenAI-compatible API
"""
