"""llama.cpp's log, kept off the terminal, with its last complaints kept for error messages.

Knows nothing of models; ``weights/optimize.py`` and the teacher's engine use it.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

ERROR_LEVEL = 4

_complaints: deque[str] = deque(maxlen=4)
_callback: Any = None  # llama.cpp keeps only a pointer to it, so that it must live as long as the program


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
