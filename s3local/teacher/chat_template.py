"""Chat templates of models, which may come from strangers: rendered in a child process with bounded time and memory.

A template is a program. Jinja's sandbox keeps it from files and from Python's internals, but not from loops without end
or from texts of gigabytes. The child renders with that sandbox; it is killed when it exceeds its limits, and started
again for the next prompt.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from s3local.exceptions import TeacherError

MAX_TEMPLATE_BYTES = 256 << 10
"""The longest templates of known models have some 20 KB."""
MAX_CPU_SECONDS = 0.7
"""Processor time for one prompt, however busy the machine is; not on Windows. Some milliseconds are usual, and some 0.1
seconds more for the first prompt of the longest templates."""
MAX_SECONDS = 5.0
"""For one prompt, and for the start of the child, by the clock: where the system cannot limit processor time."""
MAX_BYTES = 512 << 20
"""Address space of the child, where the system can limit it (not on Windows)."""
MAX_PROMPT_CHARACTERS = 4 << 20

_CHILD = r"""
import json, signal, sys
limit, cpu_seconds = int(sys.argv[1]), float(sys.argv[2])
set_timer = getattr(signal, "setitimer", None)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except (ImportError, ValueError, OSError):
    pass
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(jinja2.ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)

def refuse(message):
    raise ValueError(message)

def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
environment.filters["tojson"] = to_json
template = None
for line in sys.stdin.buffer:
    if set_timer is not None:  # when it is over, SIGPROF ends the process
        set_timer(signal.ITIMER_PROF, cpu_seconds)
    try:
        request = json.loads(line)
        if template is None:
            import datetime
            day = datetime.date.fromisoformat(request["day"])
            template = environment.from_string(request["template"])
        text = template.render(**request["values"], raise_exception=refuse, strftime_now=day.strftime)
        reply = {"text": text} if len(text) <= request["most"] else {"error": "its prompt is too long"}
    except MemoryError:
        reply = {"error": "it needs too much memory"}
    except Exception as exc:
        reply = {"error": (type(exc).__name__ + ": " + str(exc))[:300]}
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()
"""


class ChatTemplate:
    """The chat template of a model. ``day`` is the date that it may print, as YYYY-MM-DD; ``name`` is for messages."""

    def __init__(self, template: str, name: str, day: str) -> None:
        """Raises ``TeacherError`` for a template that is too long."""
        self._child: subprocess.Popen[bytes] | None = None
        if len(template) > MAX_TEMPLATE_BYTES:
            raise TeacherError(
                f"the chat template of {name} has {len(template):,} characters, {MAX_TEMPLATE_BYTES:,} are allowed"
            )
        self._template = template
        self._name = name
        self._day = day

    def render(self, messages: Sequence[Mapping[str, str]], **values: Any) -> str:
        """The prompt for ``messages``, with ``values`` as the template's other variables.

        Raises ``TeacherError`` if the template rejects them, is no template, or exceeds its limits.
        """
        child = self._child
        if child is None or child.poll() is not None:
            child = self._child = self._started()
        request = {
            "template": self._template,
            "day": self._day,
            "most": MAX_PROMPT_CHARACTERS,
            "values": {"messages": list(messages), **values},
        }
        reply = self._ask(child, json.dumps(request).encode() + b"\n")
        if reply is None:
            self.close()
            limits = f"{MAX_CPU_SECONDS:g} seconds of processor time, {MAX_SECONDS:g} seconds or {MAX_BYTES >> 20} MB"
            raise TeacherError(f"the chat template of {self._name} exceeds one of its limits: {limits}")
        if "error" in reply:
            problem = " ".join(str(reply["error"]).split())
            raise TeacherError(f"the chat template of {self._name} rejects these messages: {problem}")
        return str(reply["text"])

    def close(self) -> None:
        """End the child process. Calling it again does nothing."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-c", _CHILD, str(MAX_BYTES), str(MAX_CPU_SECONDS)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _ask(self, child: subprocess.Popen[bytes], line: bytes) -> dict[str, Any] | None:
        """The child's reply; None if it took too long, and was killed, or ended without one."""
        assert child.stdin is not None and child.stdout is not None
        timer = threading.Timer(MAX_SECONDS, child.kill)
        timer.start()
        try:
            with contextlib.suppress(OSError, ValueError):
                child.stdin.write(line)
                child.stdin.flush()
                reply = child.stdout.readline()
                return dict(json.loads(reply)) if reply else None
        finally:
            timer.cancel()
        return None

    def __del__(self) -> None:
        self.close()
