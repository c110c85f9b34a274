"""Rewrites the tables of benchmarks/README.md from the files in benchmarks/results/.

    python benchmarks/summary.py            writes the tables anew
    python benchmarks/summary.py --check    ends with an error if the README and the results disagree

A table stands between two comments, ``<!-- table: NAME ARGUMENT ... -->`` and ``<!-- end -->``; ``TABLES`` has the
names. Methods, seeds, datasets and numbers of gold rows are read from the results, so that new ones need no change
here. Below each table stands the day on which its figures last changed, as git tells it.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
RESULTS = HERE / "results"
BLOCK = re.compile(r"<!-- table: (?P<call>[^>]+?) -->\n(?P<content>.*?)<!-- end -->", re.DOTALL)

NEW_NAMES = {"handed over": "selected", "gold alone": "gold-only"}
"""What older files call otherwise."""

Table = tuple[list[str], list[list[str]]]
"""The head and the rows."""


# ---- comparisons ---------------------------------------------------------------------------------------------------


class Cells:
    """The cells of a comparison: accuracies and seconds by method, number of gold rows and seed."""

    def __init__(self, results: Results, names: Sequence[str]) -> None:
        self.methods: dict[str, None] = {}
        self.comparisons: list[dict[str, Any]] = []
        self._cells: dict[tuple[str, int], dict[int | None, dict[str, Any]]] = {}
        for name in names:
            content = results.read(name)
            self.methods |= dict.fromkeys(cell["method"] for cell in content["cells"])
            self.comparisons += content.get("comparisons") or []
            for cell in content["cells"]:
                self._cells.setdefault((cell["method"], cell["gold_rows"] or 0), {})[cell["seed"]] = cell

    def gold_counts(self) -> list[int]:
        """The numbers of gold rows, in ascending order."""
        return sorted({gold for _, gold in self._cells if gold})

    def usual_gold(self) -> int:
        """The number of gold rows that most methods have."""
        return max(self.gold_counts(), key=lambda gold: sum(key[1] == gold for key in self._cells))

    def of(self, method: str, gold: int) -> dict[int | None, dict[str, Any]]:
        """The cells by seed. A method that uses no gold row has the same ones for every number of gold rows."""
        found = self._cells.get((method, gold)) or self._cells.get((method, 0)) or {}
        return dict(sorted(found.items(), key=lambda item: (item[0] is not None, item[0])))

    def accuracies(self, method: str, gold: int) -> dict[int | None, float]:
        """Test accuracies by seed."""
        return {seed: cell["test_accuracy"] for seed, cell in self.of(method, gold).items()}


def main_cells(results: Results, datasets: Sequence[str]) -> dict[str, Cells]:
    """The cells of ``compare-DATASET.json``."""
    return {name: Cells(results, [f"compare-{name}"]) for name in datasets}


def all_cells(results: Results, datasets: Sequence[str]) -> dict[str, Cells]:
    """The cells of ``compare-DATASET.json`` and of every ``compare-DATASET-....json``."""
    return {name: Cells(results, results.names(f"compare-{name}")) for name in datasets}


def accuracy(results: Results, *datasets: str) -> Table:
    """Test accuracy: the mean over the draws of gold rows, and each draw."""
    cells = main_cells(results, datasets)
    head, columns = [], []
    for name, table in cells.items():
        gold = table.usual_gold()
        found = {method: table.accuracies(method, gold) for method in table.methods}
        draws = max(map(len, found.values()))
        head.append(f"{name}, {gold} gold rows" + (", one draw" if draws == 1 else ""))
        columns.append({method: mean_and_draws(by_seed, draws) for method, by_seed in found.items()})
    rows = [[code(method), *(column.get(method, "") for column in columns)] for method in in_order(cells.values())]
    return head, rows


def differences(results: Results, *datasets: str) -> Table:
    """The reference of the comparison minus each other method, with 95 % interval; bold where it is likely real."""
    cells = main_cells(results, datasets)
    found: dict[str, dict[str, str]] = {method: {} for method in in_order(cells.values())}
    for name, table in cells.items():
        for item in table.comparisons:
            if item["gold_rows"] in (0, table.usual_gold()):
                figure = signed(item["difference"])
                if str(item["verdict"]).startswith("likely"):
                    figure = f"**{figure}**"
                found[item["method"]][name] = f"{figure} ({signed(item['low'])} to {signed(item['high'])})"
    rows = [[code(method), *(by.get(name, "") for name in datasets)] for method, by in found.items() if by]
    return list(datasets), rows


def pairs(results: Results, *arguments: str) -> Table:
    """Differences of two methods, ``FIRST-minus-SECOND``, on the draws that both have. Other arguments: datasets."""
    datasets = [argument for argument in arguments if "-minus-" not in argument]
    cells = all_cells(results, datasets)
    rows = []
    for pair in (argument for argument in arguments if "-minus-" in argument):
        first, second = pair.split("-minus-")
        for gold in sorted({gold for table in cells.values() for gold in table.gold_counts()}):
            row, means = [f"{code(first)} - {code(second)}", str(gold)], []
            for table in cells.values():
                here, there = (table.accuracies(method, gold) for method in (first, second))
                draws = {seed: here[seed] - there[seed] for seed in here if seed in there}
                means += [statistics.fmean(draws.values())] if draws else []
                row.append(f"{signed(means[-1])} ({', '.join(map(signed, draws.values()))})" if draws else "")
            if means:
                rows.append([*row, signed(statistics.fmean(means)) if len(means) == len(datasets) else ""])
    return ["gold rows", *datasets, "mean"], rows


def curve(results: Results, *datasets: str) -> Table:
    """Mean test accuracy by the number of gold rows, of the methods that have more than one."""
    cells = all_cells(results, datasets)
    columns = [(name, gold) for name, table in cells.items() for gold in table.gold_counts()]
    rows = []
    for method in in_order(cells.values()):
        found = [cells[name].accuracies(method, gold) for name, gold in columns]
        if sum(map(bool, found)) > len(datasets):
            rows.append([code(method), *(percent(statistics.fmean(f.values())) if f else "" for f in found)])
    return [f"{name}, {gold}" for name, gold in columns], rows


def seconds(results: Results, *datasets: str) -> Table:
    """The median over the draws of the seconds that a method takes."""
    cells = main_cells(results, datasets)
    rows = []
    for method in in_order(cells.values()):
        found = [
            [cell["seconds"] for cell in table.of(method, table.usual_gold()).values()] for table in cells.values()
        ]
        rows.append([code(method), *(f"{statistics.median(f):,.0f}" if f else "" for f in found)])
    return list(datasets), rows


def rounds(results: Results, *datasets: str) -> Table:
    """S3 by rounds: how well its rows can be told from gold (AUC), and the test accuracy of the round's student."""
    rows = []
    for name, table in main_cells(results, datasets).items():
        runs = {seed: cell.get("rounds") or [] for seed, cell in table.of("s3", table.usual_gold()).items()}
        for place in range(max(map(len, runs.values()), default=0)):
            stages = {seed: run[place] for seed, run in runs.items() if len(run) > place}
            auc = statistics.fmean(stage["gap"]["auc"] for stage in stages.values())
            scores = {seed: stage["test_accuracy"] for seed, stage in stages.items()}
            rows.append([name, f"round {place}", f"{auc:.2f}", mean_and_draws(scores)])
        rows.append([name, "final, without gold", "", mean_and_draws(table.accuracies("s3", table.usual_gold()))])
    return ["student of", "AUC", "test accuracy"], rows


def in_order(tables: Iterable[Cells]) -> list[str]:
    """All methods: those of the longest list in its order, the others after them."""
    lists = sorted((list(table.methods) for table in tables), key=len, reverse=True)
    return list(dict.fromkeys(method for methods in lists for method in methods))


# ---- the other benchmarks ------------------------------------------------------------------------------------------


def engine(results: Results) -> Table:
    """Tokens a second of each contender (peak memory in MiB)."""
    entries = [row for row in results.read("engine") if row["tokens_per_second"] and ":" not in row["workload"]]
    return pivot(
        entries,
        row="workload",
        column="contender",
        show=lambda e: f"{e['tokens_per_second']:.0f}" + (f" ({e['peak_mib']})" if e["peak_mib"] else ""),
    )


def growth(results: Results) -> Table:
    """Tokens a second and memory of the engine by samples, slots and length of prompts."""
    rows = [
        [str(entry["workload"]).removeprefix("growth: "), f"{entry['tokens_per_second']:.0f}", str(entry["peak_mib"])]
        for entry in results.read("engine")
        if entry["workload"].startswith("growth: ")
    ]
    return ["tokens a second", "peak MiB"], rows


def training(results: Results) -> Table:
    """The ways to train a student."""
    rows = []
    for entry in results.read("student")["training"]:
        right = percent(entry["accuracy"]) if entry["accuracy"] is not None else ""
        rows.append([entry["way"], f"{entry['seconds']:,.1f}", f"{entry['times_ours']:.1f}", right])
    return ["seconds", "times ours", "accuracy, %"], rows


def classification(results: Results) -> Table:
    """The ways to classify."""
    rows = []
    for entry in results.read("student")["classification"]:
        same = percent(entry["same_label_as_pytorch"])
        rows.append([entry["way"], f"{entry['seconds']:.1f}", str(entry["rows_a_second"]), same])
    return ["seconds", "rows a second", "same label as PyTorch, %"], rows


def dedup(results: Results) -> Table:
    """Seconds of each way to drop near-duplicates, and its recall against the comparison of all pairs."""
    return pivot(
        results.read("dedup")["results"],
        row="method",
        column="rows",
        show=lambda e: f"{e['seconds']:.2f} s, {percent(e['recall against every pair'], 2)} %",
    )


def profile(results: Results) -> Table:
    """The share of a run's time that each part takes."""
    content = results.read("profile")
    run = f"{content['task']}, {content['rows']:,} rows, {content['seconds']:.0f} s"
    shares = content["shares"]
    return [f"{name}, %" for name in shares], [[run, *map(percent, shares.values())]]


def kinds(results: Results) -> Table:
    """Scores of all kinds of task."""
    measured = results.read("kinds")["measured"]
    stages = list(measured[0]["scores"])

    def shown(score: Mapping[str, float]) -> str:
        if "exact_match" in score:
            return f"{percent(score['exact_match'])} / {percent(score['f1'])}"
        return percent(score["accuracy"])

    rows = [
        [
            entry["dataset"],
            str(entry["synthetic_rows"]),
            *(shown(entry["scores"][stage]) for stage in stages),
            f"{entry['seconds']:,.0f}",
            f"{entry['peak_memory_mb'] / 1024:.1f}",
        ]
        for entry in measured
    ]
    return ["rows", *stages, "seconds", "GiB"], rows


def curation(results: Results) -> Table:
    """Accuracy of each stage's student, by what was switched on and by teacher."""
    measured = sorted(results.read("curation")["measured"], key=lambda entry: str(entry["dataset"]))
    stages = list(dict.fromkeys(stage for entry in measured for stage in entry["accuracy"]))
    rows = []
    for entry in measured:
        right = [percent(entry["accuracy"][stage]) if stage in entry["accuracy"] else "" for stage in stages]
        rows.append([entry["dataset"], entry["variant"], str(entry["seed"]), *right, f"{entry['seconds']:,.0f}"])
    return ["variant", "draw", *(NEW_NAMES.get(stage, stage) for stage in stages), "seconds"], rows


def suggest(results: Results) -> Table:
    """Test accuracy by the way in which rows to label were chosen, and the mean gain over random rows."""
    found: dict[str, dict[str, dict[int | None, float]]] = {}
    for name in results.names("suggest"):
        for entry in results.read(name)["measured"]:
            by_seed = found.setdefault(entry["way"], {}).setdefault(entry["dataset"], {})
            by_seed[entry["seed"]] = entry["test_accuracy"]
    datasets = list(dict.fromkeys(dataset for by_dataset in found.values() for dataset in by_dataset))
    rows = []
    for way, by_dataset in found.items():
        gains = []
        for dataset, by_seed in by_dataset.items():
            others = found.get("random", {}).get(dataset, {})
            shared = [by_seed[seed] - others[seed] for seed in by_seed if seed in others]
            gains += [statistics.fmean(shared)] if shared else []
        gain = signed(statistics.fmean(gains)) if gains and way != "random" else ""
        rows.append([way, *(mean_and_draws(by_dataset.get(dataset, {})) for dataset in datasets), gain])
    return [*datasets, "minus random, mean"], rows


def unlabelled(results: Results) -> Table:
    """What many unlabelled rows cost, and whether a killed process took the same ones."""
    rows = []
    for name in results.names("unlabelled"):
        content = results.read(name)
        found, options = content["measured"], content["options"]
        rows.append(
            [
                f"{options['dataset']}, {options['unlabelled']:,} rows, {found['taken']:,} taken",
                f"{found['file_mib']:.0f}",
                f"{found['seconds'] / 60:.1f}",
                str(found["before_mib"]),
                str(found["peak_mib"]),
                ", ".join(f"{seconds:.0f} s" for seconds in found["killed_after_seconds"]),
                "yes" if found["same_after_kill"] else "no",
            ]
        )
    return ["file, MiB", "minutes", "before, MiB", "peak, MiB", "killed after", "same rows"], rows


def judges(results: Results) -> Table:
    """Judges by variant, means over the draws: accuracy, log-likelihood and calibration error, and their seconds."""
    measured = results.read("judges")["measured"] if results.names("judges") else []
    by_place: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for entry in measured:
        by_place.setdefault((entry["dataset"], entry["gold"], entry["variant"]), []).append(entry)

    def mean(entries: Iterable[Mapping[str, Any] | None], key: str, digits: int) -> str:
        values = [entry[key] for entry in entries if entry is not None]
        return f"{statistics.fmean(values):.{digits}f}" if values else ""

    rows = []
    for (dataset, gold, variant), mine in by_place.items():
        calibrated = [entry.get("calibrated") for entry in mine]
        rows.append(
            [
                *(f"{dataset}, {gold}", variant, str(len(mine))),
                percent(statistics.fmean(entry["accuracy"] for entry in mine)),
                *(
                    mean(which, key, 2)
                    for key in ("log_likelihood", "calibration_error")
                    for which in (mine, calibrated)
                ),
                *(mean(mine, key, 0) for key in ("training_seconds", "reading_seconds")),
            ]
        )
    head = ["variant", "draws", "accuracy, %", "log-likelihood", "calibrated", "calibration error", "calibrated"]
    return [*head, "training, s", "reading, s"], rows


def contrast(results: Results) -> Table:
    """Texts that carry their label, and the teacher's seconds, by the weight of the contrast."""
    measured = results.read("contrast")["measured"]
    entries = [{**entry, "texts": f"{entry['dataset']}, {entry['stage']}"} for entry in measured]
    return pivot(
        entries, row="texts", column="contrast", show=lambda e: f"{percent(e['right'])} %, {e['seconds']:.0f} s"
    )


def hostile_files(results: Results) -> Table:
    """By kind of file: how many, how many of them not refused, and the most seconds and MB that one took."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for entry in results.read("hostile-files")["measured"]:
        by_kind.setdefault(entry["kind"], []).append(entry)
    rows = [
        [
            kind,
            str(len(files)),
            str(sum(file["said"].startswith(("NOT REFUSED", "TRACEBACK")) for file in files)),
            f"{max(file['seconds'] for file in files):.2f}",
            f"{max(file['cpu_seconds'] for file in files):.2f}",
            f"{max(file['mb'] for file in files):,.0f}",
        ]
        for kind, files in by_kind.items()
    ]
    return ["files", "not refused, or a traceback", "most seconds", "of the processor", "most MB"], rows


def soak(results: Results) -> Table:
    """Runs that were broken off at random moments, and power cuts: how many, and whether the datasets are the same."""
    content = results.read("soak")
    rows = [
        [name, str(entry["kills"]), str(entry["runs"]), str(len(entry["stages"])), str(entry["identical"])]
        for name, entry in content.items()
        if "kills" in entry
    ]
    if cuts := content.get("power cuts"):
        rows.append(["scripted, power cuts", str(cuts["moments"]), str(cuts["moments"]), "", str(cuts["identical"])])
    return ["times broken off", "runs", "in different stages", "runs with the same dataset"], rows


def privacy(results: Results) -> Table:
    """Personal data that is recognised in marked sentences, and finds in rows of datasets."""
    content = results.read("privacy")
    marked = content["sentences"]
    recall, precision = marked["found"] / marked["values"], 1 - marked["false_alarms"] / marked["alarms"]
    rows = [["marked sentences", str(marked["sentences"]), f"{percent(recall)}", f"{percent(precision)}", ""]]
    for name in ("trec", "ag_news"):
        entry = content[name]
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in entry["finds"].items())
        share = percent(entry["rows_with_a_find"] / entry["rows"])
        rows.append([name, f"{entry['rows']:,}", "", "", f"{share} ({kinds})"])
    return ["rows", "recall, %", "precision, %", "rows with a find, % (finds)"], rows


def scale(results: Results) -> Table:
    """What was timed twice, first and second, and the second as a multiple of the first."""
    sections = results.read("scale").values() if results.names("scale") else []
    found = {
        name: its for section in sections for name, its in section.items() if isinstance(its, dict) and "ratio" in its
    }
    return ["first, s", "second, s", "second / first"], [
        [name, f"{its['first']:.0f}", f"{its['second']:.0f}", f"{its['ratio']:.2f}"] for name, its in found.items()
    ]


def simulation(results: Results) -> Table:
    """A wave of shards by the number of workers, where the driver embeds the texts, and where the workers do."""
    waves = results.read("scale")["simulate"]["waves"]
    heads = ["hours", "times as fast", "driver busy, %", "workers busy, %", "died", "kB a second"]
    rows = []
    for its in waves:
        name = f"{its['workers']:,}{', which embed' if its['embedding'] == 'workers' else ''}"
        shares = [percent(its[key], 0) for key in ("driver busy", "workers busy")]
        speed = f"{its['times as fast']:,.1f}"
        rows.append(
            [name, f"{its['hours']:,.1f}", speed, *shares, str(its["died"]), f"{its['kilobytes a second']:,.0f}"]
        )
    return heads, rows


TABLES: Mapping[str, Callable[..., Table]] = {
    "accuracy": accuracy,
    "differences": differences,
    "pairs": pairs,
    "curve": curve,
    "seconds": seconds,
    "rounds": rounds,
    "engine": engine,
    "growth": growth,
    "training": training,
    "classification": classification,
    "dedup": dedup,
    "profile": profile,
    "kinds": kinds,
    "curation": curation,
    "suggest": suggest,
    "unlabelled": unlabelled,
    "judges": judges,
    "contrast": contrast,
    "hostile-files": hostile_files,
    "soak": soak,
    "privacy": privacy,
    "scale": scale,
    "simulation": simulation,
}


# ---- results, days and Markdown ------------------------------------------------------------------------------------


class Results:
    """The result files, and which of them were read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.read_names: dict[str, None] = {}

    def names(self, start: str) -> list[str]:
        """The files ``START.json`` and ``START-....json``, without the ending."""
        found = sorted(path.stem for path in self._folder.glob("*.json"))
        return [name for name in found if name == start or name.startswith(f"{start}-")]

    def read(self, name: str) -> Any:
        """The content of a file."""
        self.read_names[name] = None
        return json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))

    def days(self) -> str:
        """When the files that were read last changed, in words."""
        by_day: dict[str, list[str]] = {}
        for name in self.read_names:
            by_day.setdefault(last_change(self._folder / f"{name}.json"), []).append(f"`{name}`")
        if not by_day:
            return "Not measured yet."
        if len(by_day) == 1:
            return f"Measured {next(iter(by_day))}."
        return "Measured " + ", ".join(f"{day} ({', '.join(names)})" for day, names in sorted(by_day.items())) + "."


@functools.cache
def last_change(path: Path) -> str:
    """The day of the last commit that changed a file; today if it has changed since, or where git does not tell."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(path.parent), *arguments, "--", path.name]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    committed = git("log", "-1", "--format=%as")
    return committed if committed and not git("status", "--porcelain") else date.today().isoformat()


def table(call: str, results: Results) -> str:
    """The table of ``call``, such as ``accuracy trec sst2``, as Markdown."""
    name, *arguments = call.split()
    head, rows = TABLES[name](results, *arguments)
    lines = ["| " + " | ".join(cells) + " |" for cells in (["", *head], *rows)]
    lines.insert(1, "|" + "---|" * (len(head) + 1))
    return "\n".join(lines) + "\n"


def renewed(text: str, folder: Path = RESULTS) -> str:
    """The README with all tables as the results say. A table whose figures are the same keeps its days."""

    def replace(match: re.Match[str]) -> str:
        results = Results(folder)
        content = table(match["call"], results)
        former, _, days = match["content"].partition("\n\n")
        content += f"\n{days}" if f"{former}\n" == content else f"\n{results.days()}\n"
        return f"<!-- table: {match['call']} -->\n{content}<!-- end -->"

    return BLOCK.sub(replace, text)


def pivot(
    entries: Iterable[Mapping[str, Any]], *, row: str, column: str, show: Callable[[Mapping[str, Any]], str]
) -> Table:
    """A table with a row and a column for each value of two keys, in the order in which they appear."""
    found = {(str(entry[row]), str(entry[column])): show(entry) for entry in entries}
    columns = list(dict.fromkeys(key[1] for key in found))
    names = dict.fromkeys(key[0] for key in found)
    return columns, [[name, *(found.get((name, other), "") for other in columns)] for name in names]


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage, halves rounded up."""
    exact = Decimal(str(round(100 * share, 9)))
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def signed(share: float) -> str:
    """A difference of shares in points, with its sign."""
    text = percent(share)
    return f"+{text.lstrip('-')}" if Decimal(text) >= 0 else text


def mean_and_draws(by_seed: Mapping[int | None, float], draws: int = 2) -> str:
    """The mean, and each draw. Of one draw, its figure, and which draw it is where others have ``draws`` of them."""
    if not by_seed:
        return ""
    mean = percent(statistics.fmean(by_seed.values()))
    if len(by_seed) > 1:
        return f"{mean} ({', '.join(map(percent, by_seed.values()))})"
    (seed,) = by_seed
    return mean if seed is None or draws == 1 else f"{mean} (seed {seed} alone)"


def code(name: str) -> str:
    """A method's name as it is typed."""
    return f"`{name}`"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a table is out of step")
    options = parser.parse_args(arguments)
    old = README.read_text(encoding="utf-8")
    new = renewed(old)
    if options.check:
        sys.stdout.writelines(
            difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README", "results", n=0)
        )
        if new != old:
            print(f"{README.name} is out of step with results/: run python benchmarks/summary.py", file=sys.stderr)
        return int(new != old)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
