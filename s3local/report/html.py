"""Reports as one HTML file each: of a run, and of a comparison."""

from __future__ import annotations

from pathlib import Path

from s3local.report.comparison_page import comparison_values
from s3local.report.page import REPORT_FILE, write_page
from s3local.report.run_page import run_values
from s3local.report.run_record import read_run
from s3local.report.text import read_summary
from s3local.results import COMPARE_FILE, CompareSummary, RunSummary, read_result


def read_results(folder: Path) -> RunSummary | CompareSummary:
    """The figures of the finished run or comparison in ``folder``.

    Raises ``RunError`` if it holds neither, or one of another version, or a damaged one.
    """
    if (folder / COMPARE_FILE).is_file():
        return read_result(folder / COMPARE_FILE, CompareSummary)
    return read_summary(folder)


def write_report(folder: Path, path: Path | None = None) -> Path:
    """Write the report of the finished run or comparison in ``folder`` to ``path``, None for report.html in it.

    Returns where it is. Raises ``RunError`` if the folder holds neither, one of another version, or a damaged one;
    ``InputError`` with the line for a damaged file of rows; ``StorageError`` if a file cannot be read or written.
    """
    path = path or folder / REPORT_FILE
    if (folder / COMPARE_FILE).is_file():
        write_page(path, "comparison.html", comparison_values(read_result(folder / COMPARE_FILE, CompareSummary)))
        return path
    record = read_run(folder)
    write_page(path, "run.html", run_values(record))
    return path
