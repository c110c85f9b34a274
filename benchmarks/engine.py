"""The teacher's engine against one text at a time, and against the upper bound that ``llama_decode`` sets.

    python benchmarks/engine.py                      everything, half an hour on two cores
    python benchmarks/engine.py --quick              smaller workloads, under 3 minutes
    python benchmarks/engine.py --json FILE          also write the rows as JSON

A process of its own measures each figure: it loads the model, warms up, measures, and reports its peak memory. The
contenders take turns, and the medians of all turns are printed, so that a busy machine treats them alike.
Other programs slow llama.cpp down more than their share, because its threads wait for each other at every layer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from s3local.teacher.engine import DEFAULT_SLOTS, EngineSettings, LlamaTeacher
from s3local.teacher.llama_cache import Feed, LlamaModel, SequenceCache
from s3local.teacher.protocol import Request, Sampling
from s3local.weights.llama_runtime import model_parameters
from s3local.weights.manifest import default_model
from s3local.weights.store import find_teacher, folder_of

DATA = Path(__file__).parent.parent / "data/support_desk/dev.jsonl"
PHRASES = {
    "fault": "that report something not working",
    "billing": "that question a bill, a charge or a payment",
    "change": "that ask for another plan, an extra option or a move",
    "cancel": "that end a contract or ask how to leave",
}
OPENING = "Messages to the support desk of a broadband and mobile provider {}:\n"
MAX_TOKENS = 40
SINGLE, SHIPPED, FAST, ONE_SLOT = "create_completion", "engine, shipped file", "engine", "engine, one slot"
CEILING, DECODE_CEILING = "llama_decode, prompts and texts", "llama_decode, texts only"


@dataclass(frozen=True)
class Workload:
    """``prompts`` times ``samples`` texts.

    The contenders that run one text at a time get ``slow_prompts`` times ``slow_samples`` of them, because their rate
    does not depend on the number of texts. The slower file gets half of the prompts, still several per slot.
    """

    name: str
    prompts: tuple[str, ...]
    samples: int
    slow_prompts: int
    slow_samples: int

    def requests(self, *, part: bool = False) -> list[Request]:
        n_prompts, n_samples = (self.slow_prompts, self.slow_samples) if part else (len(self.prompts), self.samples)
        return [
            Request(prompt, seed=1000 * number + sample, max_tokens=MAX_TOKENS, stop=("\n",))
            for number, prompt in enumerate(self.prompts[:n_prompts])
            for sample in range(n_samples)
        ]


def workloads(quick: bool) -> list[Workload]:
    """The three kinds of requests of synthesis: seed data, error extrapolation, and texts for given contexts."""
    rows = defaultdict(list)
    for line in DATA.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["label"]].append(row["text"])
    generator = random.Random(1)

    def shots(count: int) -> str:
        label = generator.choice(list(PHRASES))
        return (
            OPENING.format(PHRASES[label])
            + "".join(f"- {text}\n" for text in generator.sample(rows[label], count))
            + "-"
        )

    five, many, samples, few = (64, 256, 256, 16) if not quick else (16, 64, 128, 8)
    return [
        Workload(f"1 prompt x {samples}", (OPENING.format(PHRASES["fault"]) + "-",), samples, 1, few),
        Workload(f"{five} five-shot prompts x 8", tuple(shots(5) for _ in range(five)), 8, 2, 8),
        Workload(f"{many} prompts x 1", tuple(shots(2) for _ in range(many)), 1, few, 1),
    ]


def of_length(n_tokens: int) -> str:
    """A prompt of about that many tokens."""
    texts = [json.loads(line)["text"] for line in DATA.read_text(encoding="utf-8").splitlines()]
    model = LlamaModel(find_teacher().path)
    prompt = OPENING.format(PHRASES["fault"])
    while len(model.prompt_tokens(prompt, special=False)) < n_tokens - 12:
        prompt += f"- {texts.pop()[:60]}\n"
    model.close()
    return prompt + "-"


# ---- measured in one process -----------------------------------------------------------------------------------


def engine_rate(path: Path, settings: EngineSettings, requests: list[Request]) -> dict[str, float]:
    teacher = LlamaTeacher(path, settings)
    teacher.generate(requests[: settings.slots or DEFAULT_SLOTS][: 1 if settings.slots == 1 else None])
    before = asdict(teacher.stats)
    started = time.perf_counter()
    teacher.generate(requests)
    seconds = time.perf_counter() - started
    spent = {name: value - before[name] for name, value in asdict(teacher.stats).items()}
    teacher.close()
    return {"rate": spent["tokens_sampled"] / seconds, "seconds": seconds, **spent}


def single_rate(path: Path, requests: list[Request]) -> dict[str, float]:
    llama = plain_llama(path)
    complete_one(llama, requests[0])
    llama.reset()
    started = time.perf_counter()
    n_tokens = sum(complete_one(llama, request)["usage"]["completion_tokens"] for request in requests)
    return {"rate": n_tokens / (time.perf_counter() - started)}


def ceiling_rates(path: Path, requests: list[Request], n_steps: int) -> dict[str, float]:
    """``llama_decode`` alone: tokens a second, of prompts in full batches and of texts in all slots."""
    model = LlamaModel(path)
    settings = EngineSettings()
    selected = requests[:: max(1, len(requests) // DEFAULT_SLOTS)][:DEFAULT_SLOTS]
    prompts = [model.prompt_tokens(request.prompt, special=False) for request in selected]
    cells = max(map(len, prompts)) + MAX_TOKENS
    cache = SequenceCache(
        model,
        n_sequences=len(selected),
        sequence_cells=-(-cells // 256) * 256,
        batch_tokens=settings.batch_tokens,
        max_rows=128,
        threads=len(os.sched_getaffinity(0)),
        cache_type="f16",
        flash_attention=True,
    )
    cache.decode([Feed(0, 0, prompts[0], "last")])
    cache.clear()

    started, n_prompt_tokens = time.perf_counter(), 0
    feeds: list[Feed] = []
    for number, prompt in enumerate(prompts):  # as many whole prompts a batch as fit
        if sum(len(feed.tokens) for feed in feeds) + len(prompt) > settings.batch_tokens:
            cache.decode(feeds)
            feeds = []
        feeds.append(Feed(number, 0, prompt[: settings.batch_tokens], "last"))
        n_prompt_tokens += len(prompt)
    cache.decode(feeds)
    prompt_rate = n_prompt_tokens / (time.perf_counter() - started)

    started = time.perf_counter()
    for step in range(n_steps):
        cache.decode([Feed(number, len(prompt) + step, (prompt[0],), "last") for number, prompt in enumerate(prompts)])
    return {"rate": n_steps * len(selected) / (time.perf_counter() - started), "prompt_rate": prompt_rate}


def sample_quality(path: Path, requests: list[Request], batched: bool) -> dict[str, float]:
    """The mean log-probability of a token, under one model, of the texts that a way of sampling generates."""
    teacher = LlamaTeacher(path)
    if batched:
        texts = [completion.text for completion in teacher.generate(requests)]
    else:
        llama = plain_llama(path)
        texts = [complete_one(llama, request)["choices"][0]["text"] for request in requests]
    scores = [score.token_logprobs for score in teacher.score(requests[0].prompt, texts)]
    means = np.array([np.mean(values) for values in scores if values])
    lengths = [len(values) for values in scores]
    return {
        "rate": 0.0,
        "mean_logprob": float(means.mean()),
        "standard_error": float(means.std(ddof=1) / np.sqrt(len(means))),
        "mean_tokens": float(np.mean(lengths)),
    }


def plain_llama(path: Path) -> Any:
    from llama_cpp import Llama

    threads = len(os.sched_getaffinity(0))
    with mock.patch("llama_cpp.llama_cpp.llama_model_default_params", lambda: model_parameters(gpu_layers=0)):
        return Llama(str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False)


def complete_one(llama: Any, request: Request) -> Any:
    sampling: Sampling = request.sampling
    return llama.create_completion(
        request.prompt,
        max_tokens=request.max_tokens,
        stop=list(request.stop),
        seed=request.seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        min_p=0.0,
        repeat_penalty=sampling.repetition_penalty,
    )


# ---- a process for each figure ---------------------------------------------------------------------------------


def in_a_process(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (measure, arguments))


def _with_peak(measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> dict[str, float]:
    import resource

    figures = measure(*arguments)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {**figures, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


class Table:
    """Figures by (workload, contender): a list with one entry per turn."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)

    def add(self, workload: str, contender: str, figures: dict[str, float]) -> None:
        self.cells[workload, contender].append(figures)
        load = os.getloadavg()[0]
        print(f"  {workload:28} {contender:22} {figures['rate']:7.1f}  load {load:.1f}", file=sys.stderr, flush=True)

    def median(self, workload: str, contender: str, figure: str = "rate") -> float:
        return statistics.median(entry[figure] for entry in self.cells[workload, contender])


def measure_workloads(table: Table, cases: list[Workload], repeats: int) -> None:
    model, fast = default_model("teacher"), find_teacher().path
    shipped = folder_of(model) / model.files[0].path
    for turn in range(repeats):
        for case in cases:
            whole, part = case.requests(), case.requests(part=True)
            half = whole[: len(whole) // 2]
            contenders = {
                SINGLE: (single_rate, shipped, part),
                SHIPPED: (engine_rate, shipped, EngineSettings(), whole if len(case.prompts) == 1 else half),
                FAST: (engine_rate, fast, EngineSettings(), whole),
                DECODE_CEILING: (ceiling_rates, fast, whole, 20),
                ONE_SLOT: (engine_rate, fast, EngineSettings(slots=1), part),
            }
            order = list(contenders)
            for contender in order[turn % len(order) :] + order[: turn % len(order)]:
                table.add(case.name, contender, in_a_process(*contenders[contender]))


def ceiling_with_prompts(table: Table, workload: str) -> float:
    """Sampled tokens a second if only ``llama_decode`` took time.

    The prompt tokens that the engine computes run in full batches, the sampled ones with all slots in use.
    """
    n_tokens = table.median(workload, FAST, "tokens_sampled")
    n_prompt = table.median(workload, FAST, "prompt_tokens_computed")
    prompt_seconds = n_prompt / table.median(workload, DECODE_CEILING, "prompt_rate")
    return n_tokens / (n_tokens / table.median(workload, DECODE_CEILING) + prompt_seconds)


def measure_growth(table: Table, quick: bool, repeats: int) -> None:
    path = find_teacher().path
    prompt = OPENING.format(PHRASES["fault"]) + "-"
    requests = [Request(prompt, seed, MAX_TOKENS, ("\n",)) for seed in range(1024)]
    lengths = [50, 200, 800] if not quick else [200]
    long_prompts = {length: of_length(length) for length in lengths}
    for _ in range(repeats):
        for n_samples in [16, 64, 256, 1024] if not quick else [16]:
            figures = in_a_process(engine_rate, path, EngineSettings(), requests[:n_samples])
            table.add(f"growth: {n_samples} samples", FAST, figures)
        for slots in [1, 8, 32, 64] if not quick else [8]:
            some = requests[: 128 if slots >= 32 else 32]
            table.add(
                f"growth: {slots} slots", FAST, in_a_process(engine_rate, path, EngineSettings(slots=slots), some)
            )
        for length in lengths:
            some = [replace(request, prompt=long_prompts[length]) for request in requests[:128]]
            table.add(
                f"growth: prompt of {length} tokens", FAST, in_a_process(engine_rate, path, EngineSettings(), some)
            )


def measure_quality(table: Table, quick: bool) -> None:
    path = find_teacher().path
    prompt = OPENING.format(PHRASES["billing"]) + "-"
    # llama.cpp cuts the nucleus before it applies the temperature, which makes no difference at temperature 1
    sampling = Sampling(temperature=1.0)
    requests = [Request(prompt, seed, MAX_TOKENS, ("\n",), sampling=sampling) for seed in range(12 if quick else 200)]
    table.add("quality", SINGLE, in_a_process(sample_quality, path, requests, False))
    table.add("quality", FAST, in_a_process(sample_quality, path, requests, True))


def show(table: Table, cases: list[Workload]) -> None:
    contenders = [SINGLE, SHIPPED, ONE_SLOT, FAST, CEILING, DECODE_CEILING]
    print("tokens a second (peak MiB)")
    print(
        f"{'':26}"
        + "".join(
            f"{name:>24}" for name in ["one at a time", *contenders[1:4], "decode, with prompts", "decode, texts only"]
        )
    )
    for case in cases:
        cells = []
        for contender in contenders:
            if contender == CEILING:
                cells.append(f"{ceiling_with_prompts(table, case.name):.0f}")
            else:
                peak = table.median(case.name, contender, "peak_mib")
                cells.append(f"{table.median(case.name, contender):.0f} ({peak:.0f})")
        print(f"{case.name:26}" + "".join(f"{cell:>24}" for cell in cells))
    print("\nthe engine's rate, as a multiple or a share")
    for case in cases:
        rate = table.median(case.name, FAST)
        spent = {
            name: table.median(case.name, FAST, f"seconds_{name}") / table.median(case.name, FAST, "seconds")
            for name in ("prefill", "decode", "sampling", "python")
        }
        print(
            f"{case.name:26} {rate / table.median(case.name, SINGLE):.1f}x one at a time; "
            f"{rate / table.median(case.name, ONE_SLOT):.1f}x one slot; {rate / table.median(case.name, SHIPPED):.1f}x "
            f"the shipped file; {rate / ceiling_with_prompts(table, case.name):.0%} of llama_decode with prompts, "
            f"{rate / table.median(case.name, DECODE_CEILING):.0%} of texts only; time: "
            + ", ".join(f"{name} {share:.0%}" for name, share in spent.items())
        )
    print("\ngrowth: tokens a second, peak MiB")
    for workload, contender in table.cells:
        if workload.startswith("growth"):
            peak = table.median(workload, contender, "peak_mib")
            print(f"{workload:32} {table.median(workload, contender):8.0f} {peak:8.0f}")
    print("\nquality: mean log-probability of a token, of the texts of both ways on the same file")
    for workload, contender in table.cells:
        if workload == "quality":
            mean, error, length = (
                table.median(workload, contender, name) for name in ("mean_logprob", "standard_error", "mean_tokens")
            )
            print(f"{contender:32} {mean:.3f} +- {error:.3f}, {length:.1f} tokens a text")


def rows_of(table: Table, cases: list[Workload]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for (workload, contender), entries in table.cells.items():
        row: dict[str, Any] = {
            "workload": workload,
            "contender": contender,
            "tokens_per_second": round(table.median(workload, contender), 1),
            "peak_mib": round(table.median(workload, contender, "peak_mib")),
        }
        if workload == "quality":
            row["tokens_per_second"] = None
            row.update({name: round(entries[0][name], 4) for name in ("mean_logprob", "standard_error")})
        rows.append(row)
    for case in cases:
        rate = round(ceiling_with_prompts(table, case.name), 1)
        rows.append({"workload": case.name, "contender": CEILING, "tokens_per_second": rate, "peak_mib": None})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="smaller workloads, one turn: under 3 minutes")
    parser.add_argument("--repeats", type=int, default=None, help="turns of the contenders (default 3, quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 3)
    started = time.perf_counter()
    cases, table = workloads(options.quick), Table()
    measure_workloads(table, cases, repeats)
    measure_growth(table, options.quick, repeats)
    measure_quality(table, options.quick)
    show(table, cases)
    print(f"\n{repeats} turns, {time.perf_counter() - started:.0f} seconds", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(rows_of(table, cases), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
