"""The direction of imports: a module imports only modules above it in the list, inside a folder too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "s3local"

_ORDER = """
exceptions  progress  interruption  wording  hardware  storage  encodings  records  text  tables  labelling_tools
sources  allocation  seeds  offline  placement  executor
weights.llama_build  weights.llama_runtime  weights.headers  weights.folders  weights.manifest  weights.verified
weights.store
weights.optimize  weights.download  weights.archives  weights.fetch  weights.importing
ray_models  ray_worker  ray_executor
embedder
task.yaml_file  task.model  task.rows  task.check  task.starter  task.subsample
teacher.protocol  teacher.fake  teacher.sampling  teacher.chat_template  teacher.llama_cache
teacher.writing  teacher.scheduler  teacher.batch  teacher.scoring  teacher.engine  teacher.server  teacher.recommend
synthesis.prompts  synthesis.replies  synthesis.planning  synthesis.rationales  synthesis.answer_spans  synthesis.seed
synthesis.extrapolation
curation.shared_runs  curation.vector_index  curation.decontamination  curation.dedup  curation.rules
curation.pair_rules  curation.privacy
student.agreement  student.encoding  student.windows  student.inference  student.reader
student.pooling  student.body  student.optimisation  student.contrastive  student.training
student.reader_training  student.export  student.reader_export
evaluation.metrics  evaluation.predictions  evaluation.errors  evaluation.squad  evaluation.calibration
evaluation.thresholds  evaluation.cross_validation  evaluation.learning_curve  evaluation.gap  evaluation.projection
evaluation.leakage
review.selection
relabelling.judge  relabelling.teacher_likelihood  relabelling.label_model
comparison.significance  results
runner.prompt_style  runner.settings  runner.state  runner.models  runner.task_kinds  runner.context  runner.generation
runner.relabel  runner.unlabelled_pool  runner.unlabelled  runner.model_selection  runner.finish  runner.row_map
runner.leakage  runner.loop  runner.forecast  runner.quick
comparison.methods  comparison.baselines  comparison.cache  comparison.cells  comparison.side_by_side
comparison.summary  comparison.compare
finished_run  prediction  serving  doctor  offline_proof
report.text  report.check  report.compare
report.page  report.charts  report.run_record  report.evidence  report.advice  report.row_list  report.run_page
report.comparison_page  report.html
export.cards  export.dataset  export.model
review.decisions  review.rows  review.drift  review.dev_file  review.desk  review.server
review.retrain  review.labelling
bundle.carried  bundle.sbom  bundle.create
cli.terminal  cli.completion  cli.options  cli.setup  cli.bundle  cli.models  cli.task  cli.data  cli.report  cli.run
cli.compare  cli.predict  cli.export  cli.serve  cli.review  cli.doctor  cli.main
"""
ORDER = _ORDER.split()
PLACE = {f"s3local.{name}": number for number, name in enumerate(ORDER)}


def module_of(path: Path) -> str:
    return "s3local." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported_modules(source: str) -> set[str]:
    """The modules of the package that a source imports, inside functions and type-checking blocks as well."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (
                    name in PLACE or is_package(name) or (node.module == "s3local" and alias.name != "__version__")
                )
                found.add(name if is_module else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("s3local.")}


def is_package(name: str) -> bool:
    return (PACKAGE.parent / name.replace(".", "/") / "__init__.py").is_file()


def forbidden_imports(module: str, source: str) -> set[str]:
    """What ``source``, the text of ``module``, imports from its own place in the order or from below it."""
    return {name for name in imported_modules(source) if PLACE.get(name, len(ORDER)) >= PLACE[module]}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_every_module_has_its_place_in_the_order() -> None:
    assert sorted(map(module_of, FILES)) == sorted(PLACE)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_imports_only_modules_above_its_own(path: Path) -> None:
    assert not forbidden_imports(module_of(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_a_package_imports_nothing_by_itself(path: Path) -> None:
    assert not imported_modules(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("form", ["import {whole}", "from {whole} import anything", "from {parent} import {last}"])
@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_forbidden_import_is_found_wherever_it_is_added(path: Path, form: str) -> None:
    added = [f"s3local.{name}" for name in (*ORDER[PLACE[module_of(path)] :], "student", "nowhere")]
    lines = []
    for whole in added:
        parent, _, last = whole.rpartition(".")
        lines.append("    " + form.format(whole=whole, parent=parent, last=last))
    source = "\n".join([path.read_text(encoding="utf-8"), "def added():", *lines])
    assert set(added) <= forbidden_imports(module_of(path), source)


@pytest.mark.parametrize("path", [*FILES, *PACKAGE.glob("*/__init__.py")], ids=module_of)
def test_a_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_part_is_called_like_a_public_name() -> None:
    """A part that is imported becomes an attribute of the package, and would take the name's place."""
    import s3local

    assert not {name.split(".")[0] for name in ORDER} & set(s3local.__all__)
