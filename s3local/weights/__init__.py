"""The weights: what each model is, where it lies, how it comes here, and in which form it is fastest.

    manifest.py   models/manifest.toml and the records of imported models
    store.py      what is on this disk, and which file to load
    fetch.py      the only part that uses the network
    importing.py  models from a file, a folder or a wheel, without a network
    optimize.py   the GGUF format that this processor computes fastest
    headers.py    GGUF and safetensors headers, read without loading
    llama.py      how llama.cpp loads a model, and its log

Knows nothing of tasks, prompts or rounds.
"""

from s3local.weights.llama import llama_complaint, silence_llama_log
from s3local.weights.manifest import Model, known_models, load_manifest, models_folder
from s3local.weights.store import TeacherWeights, find_encoder, find_student_body, find_teacher

__all__ = [
    "Model",
    "TeacherWeights",
    "find_encoder",
    "find_student_body",
    "find_teacher",
    "known_models",
    "llama_complaint",
    "load_manifest",
    "models_folder",
    "silence_llama_log",
]
