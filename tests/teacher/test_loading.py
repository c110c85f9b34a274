"""Loading, closing, and what a user reads when the model, the memory or the settings do not fit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import llama_cpp
import pytest

from s3local.exceptions import ModelError, TeacherError
from s3local.teacher.engine import EngineSettings, LlamaTeacher
from s3local.teacher.protocol import Request


@pytest.fixture(scope="module")
def original(model_path: Path) -> Path:
    """The smallest GGUF of the embedded teacher."""
    return min(model_path.parent.glob("*.gguf"), key=lambda path: path.stat().st_size)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.gguf: no such model file; 's3local models list'"):
        LlamaTeacher(tmp_path / "nowhere.gguf")


def test_not_a_gguf(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("This is a text.")
    with pytest.raises(ModelError, match="not a GGUF file: it starts with b'This', where b'GGUF' belongs"):
        LlamaTeacher(path)


@pytest.mark.models
def test_truncated(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with original.open("rb") as stream:
        path.write_bytes(stream.read(20_000_000))
    with pytest.raises(ModelError, match=r"truncated: its header promises [\d,]+ bytes, the file has 20,000,000"):
        LlamaTeacher(path)


@pytest.mark.models
def test_unknown_architecture(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    shutil.copyfile(original, path)
    with path.open("r+b") as stream:
        head = stream.read(4096)
        place = head.index(b"llama", head.index(b"general.architecture"))
        stream.seek(place)
        stream.write(b"novum")
    with pytest.raises(
        ModelError, match=r"unknown model architecture: 'novum'.*a llama-cpp-python that supports 'novum'"
    ):
        LlamaTeacher(path)


@pytest.mark.models
def test_too_little_memory_says_what_to_lower(model_path: Path) -> None:
    greedy = LlamaTeacher(model_path, EngineSettings(slots=200, context=1_000_000))
    try:
        with pytest.raises(TeacherError, match=r"no memory for a cache of 200 sequences.* MiB.*; lower --slots"):
            greedy.generate([Request("x", seed, 900_000) for seed in range(200)])
        assert greedy.generate([Request("x", 0, 3)])[0].n_tokens <= 3
    finally:
        greedy.close()


@pytest.mark.models
def test_a_card_that_is_nearly_full_takes_fewer_texts_side_by_side(model_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not (llama_cpp.llama_supports_gpu_offload() and torch.cuda.is_available()):
        pytest.skip("there is no graphics card")
    teacher = LlamaTeacher(model_path)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    filler = torch.empty(free - (2 << 30), dtype=torch.uint8, device="cuda")  # 64 texts of 2,048 tokens take 3 GiB
    try:
        samples = teacher.generate([Request("so " * 1900, seed, 3) for seed in range(64)])
        assert teacher._cache is not None
        assert 1 <= teacher._cache.n_sequences < 64
        assert len(samples) == 64
        assert all(sample.n_tokens <= 3 for sample in samples)
    finally:
        teacher.close()
        del filler
        torch.cuda.empty_cache()


@pytest.mark.models
def test_gpu_layers_without_a_gpu_are_refused(model_path: Path) -> None:
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this llama-cpp-python has a GPU")
    with pytest.raises(ModelError, match=r"20 layers are to run on a GPU.*--gpu-layers"):
        LlamaTeacher(model_path, EngineSettings(gpu_layers=20))
    LlamaTeacher(model_path, EngineSettings(gpu_layers=0)).close()


@pytest.mark.models
def test_more_slots_than_llama_cpp_has(model_path: Path) -> None:
    greedy = LlamaTeacher(model_path, EngineSettings(slots=300))
    try:
        with pytest.raises(TeacherError, match=r"300 sequences are needed, this llama\.cpp allows 256; lower --slots"):
            greedy.generate([Request("x", seed, 3) for seed in range(300)])
    finally:
        greedy.close()


@pytest.mark.models
def test_closing_twice_and_using_afterwards(model_path: Path) -> None:
    teacher = LlamaTeacher(model_path)
    teacher.generate([Request("x", 0, 2)])
    teacher.close()
    teacher.close()
    for use in (
        lambda: teacher.generate([Request("x", 0, 2)]),
        lambda: teacher.score("x", ["y"]),
        lambda: teacher.chat([{"role": "user", "content": "x"}]),
        lambda: teacher.count_tokens("x"),
    ):
        with pytest.raises(ValueError, match="the teacher is closed"):
            use()


MEMORY_SCRIPT = """
import gc, sys
from pathlib import Path

import psutil
from s3local.teacher.protocol import Request
from s3local.teacher.engine import EngineSettings, LlamaTeacher

def resident():
    return psutil.Process().memory_info().rss >> 20

for _ in range(4):
    teacher = LlamaTeacher(Path(sys.argv[1]), EngineSettings(slots=32))
    teacher.generate([Request("The", seed, 4) for seed in range(32)])
    teacher.close()
    gc.collect()
    print(resident())
"""


@pytest.mark.models
def test_closing_gives_the_memory_back(model_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(model_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    left = [int(line) for line in printed.splitlines()]
    assert len(left) == 4 and left[3] - left[0] < 32, f"memory grows with every teacher: {left} MiB"


@pytest.mark.parametrize(
    "wrong",
    [{"slots": 0}, {"threads": 0}, {"context": 0}, {"batch_tokens": 0}, {"gpu_layers": -1}],
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        EngineSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="flash_attention"):
        EngineSettings(cache_type="q8_0", flash_attention=False)
