"""The weights: what each model is, where it lies, how it comes here, and in which form it is fastest.

llama_runtime.py  how llama.cpp loads a model, and its log
headers.py        GGUF and safetensors headers, read without loading
manifest.py       models/manifest.toml and the records of imported models
store.py          what is on this disk, and which file to load
optimize.py       the GGUF format that this processor computes fastest
fetch.py          the only part that uses the network
importing.py      models from a file, a folder or a wheel, without a network
"""
