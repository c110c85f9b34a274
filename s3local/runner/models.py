"""The models of a run: found before anything starts, loaded when they are needed, identified by their checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp
import torch

from s3local import __version__, offline
from s3local.embedder import Embedder, LazyEmbedder
from s3local.exceptions import ModelError
from s3local.executor import Executor, InThisProcess, Pool, Result
from s3local.hardware import cpu_name, torch_device, total_memory_bytes
from s3local.placement import Needs
from s3local.progress import Advance, Progress, ignore
from s3local.relabelling.judge import JudgeTrainer, train_judges
from s3local.results import SCHEMA_VERSION
from s3local.runner.settings import RunSettings
from s3local.runner.state import FILES, PROGRAM
from s3local.sources import Reading, rows_hash
from s3local.storage import sha256_of_folder
from s3local.synthesis.prompts import TEMPLATES
from s3local.task.model import Kind, Task
from s3local.teacher.engine import EngineSettings, LlamaTeacher, planned_memory
from s3local.teacher.llama_cache import require_gpu
from s3local.teacher.protocol import Completion, Request, Score, Teacher
from s3local.teacher.server import (
    DEFAULT_PARALLEL,
    Server,
    ServerTeacher,
    find_server,
    is_server_address,
    parse_address,
)
from s3local.weights.manifest import PromptStyle
from s3local.weights.store import find_encoder, find_judge, find_student_body, find_teacher

RECORDED_PACKAGES = (
    "llama-cpp-python",
    "onnxruntime",
    "optimum",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "transformers",
)


TEACHER = Needs("teacher")
"""What a teacher needs that uses a whole machine, and next to no memory."""

NO_JUDGE = "none"
"""In place of a judge's id: the sentence encoder judges, which has a fifth of the size."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a run, found but not loaded.

    ``teacher`` loads the teacher, whose prompts have ``style``; ``body`` is the folder of the student's pretrained
    body, ``judge`` that of the judges' encoder, which ``train_judges`` trains. ``identity`` holds the models' checksums
    for config.json, ``files`` the SHA-256 of each folder or file that is loaded. ``can_contrast`` and ``can_score`` say
    what the teacher can do beside writing: contrast two prompts, and give the log-probabilities of a given text.
    """

    teacher: Callable[[], Teacher]
    style: PromptStyle
    embedder: Embedder
    body: Path
    judge: Path
    identity: Mapping[str, Any]
    files: Mapping[Path, str] = field(default_factory=dict)
    train_judges: JudgeTrainer = train_judges
    can_contrast: bool = True
    can_score: bool = True
    teacher_memory: int = 0

    def contrast(self, settings: RunSettings) -> float:
        """The weight of the contrast in a run with ``settings``; 0 if this teacher cannot contrast."""
        return settings.contrast_for(self.style) if self.can_contrast else 0.0


def find_models(
    settings: RunSettings,
    *,
    teacher: Callable[[], Teacher] | None = None,
    style: PromptStyle = "list",
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> Models:
    """The models that ``settings`` name, except those that are given.

    ``teacher`` loads a teacher whose prompts have ``style``. A teacher behind a server is asked what it can do;
    ``progress`` says what it cannot. Raises ``ModelError`` if a model or a server is missing, or if there is no GPU for
    ``gpu_layers``.
    """
    body, judge = find_bodies(settings)
    files = {body: sha256_of_folder(body), judge: sha256_of_folder(judge)}
    teacher_memory = 0
    identity: dict[str, Any] = {"student_sha256": files[body], "judge_sha256": files[judge]}
    if settings.allow_host is not None and not is_server_address(settings.teacher):
        raise ModelError(f"--allow-host {settings.allow_host} is for a teacher's server, and --teacher names none")
    can_contrast = can_score = True
    if teacher is None and is_server_address(settings.teacher):
        server = _found_server(settings)
        identity["teacher"] = server.identity
        style, can_contrast, can_score = server.style, False, server.can_score
        if progress is not None and settings.contrast_for(style):
            progress.say("contrast is off: the teacher is behind a server, which cannot contrast two prompts")

        def teacher() -> Teacher:
            return ServerTeacher(server, settings.engine.slots or DEFAULT_PARALLEL, progress=progress)

    elif teacher is None:
        require_gpu(settings.engine.gpu_layers)
        weights = find_teacher(settings.teacher)
        identity["teacher"] = {"id": weights.id, "sha256": weights.sha256, "style": weights.prompt_style}
        style, files[weights.path] = weights.prompt_style, weights.sha256
        memory = total_memory_bytes()  # of this machine, so that a teacher on another one has as many slots
        prompts = 2 if settings.contrast_for(style) else 1
        teacher_memory = planned_memory(weights.path, settings.engine, memory, prompts)

        def teacher() -> Teacher:
            return LlamaTeacher(weights.path, settings.engine, memory)

    if embedder is None:
        encoder = find_encoder(settings.encoder)
        identity["encoder_sha256"] = files[encoder] = sha256_of_folder(encoder)
        embedder = LazyEmbedder(encoder)
    return Models(
        teacher,
        style,
        embedder,
        body,
        judge,
        identity,
        files,
        can_contrast=can_contrast,
        can_score=can_score,
        teacher_memory=teacher_memory,
    )


def find_bodies(settings: RunSettings) -> tuple[Path, Path]:
    """The folders of the student's pretrained body and of the judges' encoder. Raises ``ModelError`` if one is
    missing."""
    judge = find_judge(settings.judge) if settings.judge != NO_JUDGE else None
    return find_student_body(settings.student), judge or find_encoder(settings.encoder)


def _found_server(settings: RunSettings) -> Server:
    """The server that ``settings.teacher`` names, after its host was admitted.

    Raises ``ModelError`` if the host is not this machine and ``allow_host`` does not name it, if the server does not
    serve, or for settings that no server obeys.
    """
    address = parse_address(settings.teacher or "")
    if not address.is_local:
        if (settings.allow_host or "").lower() != address.host.lower():
            raise ModelError(
                f"the teacher's host {address.host} is not this machine, and the program connects to no other one "
                f"unless it is named: say --allow-host {address.host}"
            )
        offline.admit(address.host, address.port)
    if settings.contrast:
        raise ModelError("a server cannot contrast prompts; omit --contrast, or choose a teacher from a file")
    if dataclasses.replace(settings.engine, slots=None) != EngineSettings():
        raise ModelError("--threads, --gpu-layers and --cache-type belong to the server, where the model is loaded")
    return find_server(address)


class TeacherSource:
    """The teachers of a run: one, or one on each of several workers, as ``executor`` has it.

    They are loaded with the first job, and closed before a student trains: one GPU must be enough. ``needs`` is what
    one of them takes of its machine.
    """

    def __init__(
        self,
        opener: Callable[[], Teacher],
        style: PromptStyle,
        executor: Executor | None = None,
        needs: Needs = TEACHER,
    ) -> None:
        self._pool = (executor or InThisProcess()).pool(opener, needs)
        self.style = style

    def completed(
        self, jobs: Sequence[Callable[[Teacher, Advance], Result]], advance: Advance = ignore
    ) -> Generator[tuple[int, Result], None, None]:
        """See ``Pool.completed``; each job is called with a teacher. Raises ``ModelError`` if none can be loaded."""
        return self._pool.completed(jobs, advance)

    def open(self) -> Teacher:
        """A teacher that is wherever the jobs are."""
        return _PooledTeacher(self._pool)

    def close(self) -> None:
        """Free the teachers' memory; the next job loads them again."""
        self._pool.close()


class _PooledTeacher:
    """The ``Teacher`` whose calls are jobs of ``pool``."""

    def __init__(self, pool: Pool[Teacher]) -> None:
        self._pool = pool

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``."""
        return self._ask(partial(_generate, list(requests)), advance)

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``."""
        return self._ask(lambda teacher, _: teacher.score(prompt, continuations))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._ask(lambda teacher, _: teacher.chat(messages))

    def count_tokens(self, text: str) -> int:
        """See ``Teacher.count_tokens``."""
        return self._ask(lambda teacher, _: teacher.count_tokens(text))

    def close(self) -> None:
        """See ``Teacher.close``."""
        self._pool.close()

    def _ask(self, job: Callable[[Teacher, Advance], Result], advance: Advance = ignore) -> Result:
        ((_, answer),) = self._pool.completed([job], advance)
        return answer


def _generate(requests: Sequence[Request], teacher: Teacher, advance: Advance) -> list[Completion]:
    return teacher.generate(requests, advance)


def configuration(task: Task, settings: RunSettings, models: Models) -> dict[str, Any]:
    """Everything that a result depends on, as plain values for config.json."""
    return {
        "settings": dataclasses.asdict(settings),
        "task": task.model_dump(mode="json", exclude={"dev", "test", "contexts", "unlabelled", "reading"}),
        **({} if task.reading == Reading() else {"reading": task.reading.model_dump()}),
        "dev_sha256": rows_hash(task.dev),
        "test_sha256": rows_hash(task.test) if task.test else None,
        "contexts_sha256": rows_hash(task.contexts) if task.contexts else None,
        "unlabelled_sha256": rows_hash(task.unlabelled) if task.unlabelled and settings.use_unlabelled else None,
        **models.identity,
        FILES: files_of(task),
        PROGRAM: {
            "schema_version": SCHEMA_VERSION,
            "prompts_sha256": prompts_hash(models.style, task.kind),
        },
        "versions": {
            "s3local": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        },
        "machine": {
            "processor": cpu_name(),
            "llama.cpp": llama_cpp.llama_print_system_info().decode().strip(" |"),
            "torch": torch.cuda.get_device_name() if torch_device() == "cuda" else "the processor",
        },
    }


def files_of(task: Task) -> dict[str, str | None]:
    """Where the rows of a task lie."""
    files = {"dev": task.dev, "test": task.test, "contexts": task.contexts}
    return {name: str(path.resolve()) if path is not None else None for name, path in files.items()}


def prompts_hash(style: PromptStyle, kind: Kind) -> str:
    """The checksum of all prompt templates for a style and a kind of task."""
    templates = {name: template.template for name, template in TEMPLATES[style][kind].items()}
    return hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()
