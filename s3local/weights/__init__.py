"""Model files: what each model is, where its files lie, how they get here, and in which format they are fastest.

llama_build.py    wheels of llama.cpp, for this processor or for any
llama_runtime.py  how llama.cpp loads a model, and its log
headers.py        GGUF and safetensors headers, read without loading a model
manifest.py       models/manifest.toml and the records of imported models
verified.py       which files were compared with their checksums
store.py          what is on this disk, and which file to load
optimize.py       the GGUF format that this processor computes fastest
download.py       one file over HTTP, resumed where it broke off
archives.py       files out of wheels and ZIP archives
fetch.py          models from the hub or the package registry
importing.py      models from a file, a folder, wheels or an archive, without a network
"""
