"""The architecture, read from the imports: which part may know which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

ROOT = REPOSITORY

# A room, and the rooms that it may import from, whether at its top or inside a function; the ground is everybody's.
# Two tables belong to it: what networks and masks there are is asked by configurations and pages, too, which have no
# business with what builds and draws them.
TABLES = ("mixmo_fast.mixing.methods", "mixmo_fast.networks.kinds")
GROUND = (
    *("mixmo_fast.errors", "mixmo_fast.cores", "mixmo_fast.compilers", "mixmo_fast.files", "mixmo_fast.batch"),
    *("mixmo_fast.__version__", "mixmo_fast.runfolder", "mixmo_fast.tables", "mixmo_fast.terminal", *TABLES),
)
MAY_IMPORT = {
    **dict.fromkeys(TABLES, ()),
    "mixmo_fast.runfolder": (),
    "mixmo_fast.mixing": (),
    "mixmo_fast.config": (),
    "mixmo_fast.networks": ("mixmo_fast.mixing",),
    "mixmo_fast.evaluation": ("mixmo_fast.mixing", "mixmo_fast.networks"),
    "pipelines.datasets": (),
    "pipelines.assembly": ("mixmo_fast.mixing",),
    "pipelines": ("mixmo_fast.mixing", "pipelines.assembly", "pipelines.datasets"),
    "mixmo_fast.training": (
        *("mixmo_fast.mixing", "mixmo_fast.networks", "mixmo_fast.config", "mixmo_fast.evaluation"),
    ),
    "mixmo_fast.report": ("mixmo_fast.mixing", "mixmo_fast.config", "mixmo_fast.evaluation", "mixmo_fast.training"),
    "mixmo_fast.doctor": ("pipelines.datasets",),
    "mixmo_fast.run": (
        *("mixmo_fast.mixing", "mixmo_fast.networks", "mixmo_fast.config", "mixmo_fast.evaluation", "pipelines"),
        *("mixmo_fast.training", "mixmo_fast.report"),
    ),
    "mixmo_fast.reproduce": (
        *("mixmo_fast.config", "mixmo_fast.networks", "mixmo_fast.training", "mixmo_fast.report", "mixmo_fast.run"),
        "pipelines.datasets",
    ),
    "mixmo_fast.api": (
        *("mixmo_fast.config", "mixmo_fast.mixing", "mixmo_fast.networks", "mixmo_fast.evaluation", "pipelines"),
        *("mixmo_fast.training", "mixmo_fast.run"),
    ),
    "benchmarks": ("mixmo_fast", "pipelines"),
    "benchmarks.faults": ("mixmo_fast", "pipelines"),  # on a floor above: no command needs them
    "mixmo_fast.cli": ("mixmo_fast", "pipelines", "benchmarks"),
    "mixmo_fast.__main__": ("mixmo_fast.cli",),
}
LOOSE = {
    f"{name}.py"
    for name in ("__init__", "__main__", "batch", "compilers", "cores", "errors", "files", "tables", "terminal")
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The innermost room that a module lies in; None for the ground."""
    inside = [room for room in MAY_IMPORT if module == room or module.startswith(f"{room}.")]
    return max(inside, key=len, default=None)


def files() -> list[Path]:
    return sorted(path for top in ("mixmo_fast", "pipelines", "benchmarks") for path in (ROOT / top).rglob("*.py"))


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


def test_no_room_imports_one_that_it_may_not_know():
    for path in files():
        module = module_of(path)
        if module == "mixmo_fast":  # the door, which opens each room when it is asked for
            continue
        room = room_of(module)
        allowed = (*GROUND, *((room, *MAY_IMPORT[room]) if room else ()))
        for name in of_the_project(imports(path)) - {"mixmo_fast", "pipelines"}:
            fits = any(name == one or name.startswith(f"{one}.") for one in allowed)
            assert fits, f"{path.relative_to(ROOT)} must not import {name}"


def test_rooms_form_floors_without_a_circle():
    arrows: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for path in files():
        room = room_of(module_of(path))
        if room is not None:
            arrows[room] |= {room_of(name) for name in of_the_project(imports(path))} - {room, None, *TABLES}

    def floor(room: str, below: tuple[str, ...] = ()) -> int:
        assert room not in below, f"a circle: {' -> '.join((*below, room))}"
        return 1 + max((floor(other, (*below, room)) for other in arrows[room]), default=1)  # on the ground

    assert max(map(floor, arrows)) <= 9


def test_only_the_ground_lies_loose():
    assert {path.name for path in (ROOT / "mixmo_fast").glob("*.py")} == LOOSE


def test_nothing_but_the_main_program_imports_the_command_line():
    for path in files():
        if room_of(module_of(path)) not in ("mixmo_fast.cli", "mixmo_fast.__main__"):
            assert not any(name.startswith("mixmo_fast.cli") for name in imports(path)), path


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("mixmo_fast.cli.app", ("torch", "numpy", "pydantic", "matplotlib", "numba")),
        ("mixmo_fast.config.load", ("torch", "numpy")),
        ("mixmo_fast.networks.kinds", ("torch", "numpy")),
        ("mixmo_fast.mixing.methods", ("numpy",)),
        ("mixmo_fast.runfolder.lock", ("torch", "pydantic")),
        ("mixmo_fast.runfolder.names", ("torch", "pydantic")),
        ("mixmo_fast.runfolder.records", ("torch", "numpy")),
        ("mixmo_fast.reproduce.command", ("torch", "matplotlib", "ray")),
        ("mixmo_fast.reproduce.child", ("torch", "pydantic")),
        ("mixmo_fast.reproduce.reporting", ("torch", "matplotlib")),
        ("mixmo_fast.reproduce.status", ("torch", "matplotlib")),
        ("mixmo_fast.run.train", ("matplotlib", "ffcv", "nvidia.dali", "tensorboard", "sklearn", "torchvision")),
        ("mixmo_fast.run.evaluate", ("matplotlib", "torchvision", "torch._dynamo")),
    ],
)
def test_heavy_packages_are_imported_only_where_they_are_used(module, heavy):
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == ""
