"""What every use of llama.cpp shares: how it loads a model, and its log, kept off the terminal, with its last
complaints kept for error messages.

Knows nothing of single models; ``weights/optimize.py`` and the teacher's engine use it.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

from s3local.hardware import cpu_flags

ERROR_LEVEL = 4

_complaints: deque[str] = deque(maxlen=4)
_callback: Any = None  # llama.cpp keeps only a pointer to it, so that it must live as long as the program


def model_parameters(gpu_layers: int) -> Any:
    """What llama.cpp is to load a model with, ``gpu_layers`` layers of it on a graphics card.

    Where a processor has AMX, weights are computed with as they lie in the file. llama.cpp would arrange them for AMX
    otherwise, and end with a fault at the first batch if it was built by GCC 12.2: that drops the stores of the tile
    configuration as dead, since its intrinsic does not say that it reads them.
    """
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers
    parameters.use_extra_bufts = "amx_tile" not in cpu_flags()
    return parameters


def silence_llama_log() -> None:
    """Send llama.cpp's log nowhere, for the rest of the program. Calling it again does nothing."""
    global _callback
    if _callback is not None:
        return
    import llama_cpp

    def receive(level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            _complaints.append(text.decode("utf-8", errors="replace").strip())

    _callback = llama_cpp.llama_log_callback(receive)
    llama_cpp.llama_log_set(_callback, ctypes.c_void_p(0))


def llama_complaint() -> str:
    """The last errors that llama.cpp logged since ``silence_llama_log``, as one line; "" if there were none.

    Reading it forgets them, so that the next failure is not explained by an old one.
    """
    text = "; ".join(_complaints)
    _complaints.clear()
    return text
