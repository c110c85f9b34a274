"""What every use of llama.cpp shares: the parameters that load a model, and its log.

The log is kept off the terminal; its last errors are kept for our own messages.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections import deque
from pathlib import Path
from typing import Any

from s3local.hardware import cpu_flags

ERROR_LEVEL = 4

_errors: deque[str] = deque(maxlen=4)
_callback: Any = None  # llama.cpp keeps a bare pointer to it, so it must live as long as the program


def model_parameters(gpu_layers: int) -> Any:
    """The parameters with which llama.cpp loads a model, ``gpu_layers`` layers of it on a graphics card.

    On a processor with AMX, llama.cpp would rearrange the weights for it. That is switched off: a llama.cpp built by
    GCC 12.2 then crashes at the first batch, because this compiler removes the stores that set up AMX's tiles.
    """
    import llama_cpp

    _load_kernels()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers
    parameters.use_extra_bufts = "amx_tile" not in cpu_flags()
    return parameters


@functools.cache
def _load_kernels() -> None:
    """Load the best kernels for this processor, where llama.cpp has several in libraries of their own.

    The function is called by way of libllama: wheels hold copies in place of links, so that libggml, opened by its own
    name, would be a second one that llama.cpp does not use. Windows finds a function only in its own library.
    """
    import llama_cpp
    from llama_cpp import _ggml

    folder = Path(llama_cpp.__file__).parent / "lib"
    if any(folder.glob("*ggml-cpu-*")):
        library = _ggml.libggml if os.name == "nt" else llama_cpp.llama_cpp._lib
        library.ggml_backend_load_all_from_path(str(folder).encode())


def silence_llama_log() -> None:
    """Keep llama.cpp's log off the terminal for the rest of the program. Calling it again does nothing."""
    global _callback
    if _callback is not None:
        return
    import llama_cpp

    def receive(level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            _errors.append(text.decode("utf-8", errors="replace").strip())

    _callback = llama_cpp.llama_log_callback(receive)
    llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))


def llama_errors() -> str:
    """The last errors that llama.cpp logged after ``silence_llama_log``, as one line; "" if there were none.

    Reading clears them, so that an old error does not explain a new failure.
    """
    text = "; ".join(_errors)
    _errors.clear()
    return text
