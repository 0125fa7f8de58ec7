"""The architecture, read from the imports: which part may know which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A part of the code, and what of the project it may import besides itself. `errors`, `cores`, `files`: everybody's.
MAY_IMPORT = {
    "mixmo_fast/errors.py": (),
    "mixmo_fast/cores.py": (),
    "mixmo_fast/files.py": (),
    "mixmo_fast/config": (),
    "mixmo_fast/mixing": (),
    "mixmo_fast/batch.py": (),
    "mixmo_fast/networks": ("mixmo_fast.mixing",),
    "mixmo_fast/evaluation": ("mixmo_fast.batch", "mixmo_fast.mixing", "mixmo_fast.networks", "mixmo_fast.config"),
    "mixmo_fast/training": (
        "mixmo_fast.batch",
        "mixmo_fast.mixing",
        "mixmo_fast.networks",
        "mixmo_fast.config",
        "mixmo_fast.evaluation",
    ),
    "mixmo_fast/report": ("mixmo_fast.config", "mixmo_fast.evaluation", "mixmo_fast.training"),
    "pipelines": ("mixmo_fast.batch", "mixmo_fast.mixing"),
}
COMPOSITION = tuple(
    f"mixmo_fast/{name}"
    for name in (
        *("__main__.py", "build.py", "cli.py", "cli_options.py", "cli_reproduce.py", "cli_results.py"),
        *("cli_train.py", "findings.py", "machine.py"),
        *("evaluation_tables.py", "reproduce", "run_page.py", "shifted.py", "trained.py"),
        *("benchmark_command.py", "config_command.py", "doctor_command.py", "evaluate_command.py"),
        *("inspect_command.py", "preview_command.py", "report_command.py", "reproduce_command.py"),
        *("checkpoint_command.py", "status_command.py", "train_command.py"),
    )
)


def python_files(part: str) -> list[Path]:
    path = ROOT / part
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def of_the_project(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("mixmo_fast", "pipelines", "benchmarks", "tests")}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_no_import_goes_against_the_layers(part):
    own = part.removesuffix(".py").replace("/", ".")
    allowed = (
        own,
        "mixmo_fast.errors",
        "mixmo_fast.cores",
        "mixmo_fast.files",
        "mixmo_fast.__version__",
        *MAY_IMPORT[part],
    )
    for path in python_files(part):
        for name in of_the_project(imports(path)) - {"mixmo_fast"}:
            assert name.startswith(allowed), f"{path.relative_to(ROOT)} must not import {name}"


def test_every_file_belongs_to_a_layer():
    known = {path for part in (*MAY_IMPORT, *COMPOSITION) for path in python_files(part)}
    known.add(ROOT / "mixmo_fast" / "__init__.py")
    assert known == {*(ROOT / "mixmo_fast").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("mixmo_fast.cli", ("torch", "numpy", "pydantic", "matplotlib", "numba")),
        ("mixmo_fast.config.load", ("torch", "numpy")),
        ("mixmo_fast.reproduce_command", ("torch", "matplotlib", "ray")),
        ("mixmo_fast.reproduce.child", ("torch", "pydantic")),
        ("mixmo_fast.report_command", ("torch", "matplotlib")),
        ("mixmo_fast.status_command", ("torch", "matplotlib")),
        ("mixmo_fast.train_command", ("matplotlib", "ffcv", "nvidia.dali", "tensorboard", "sklearn")),
    ],
)
def test_heavy_packages_are_imported_only_where_they_are_used(module, heavy):
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == ""
