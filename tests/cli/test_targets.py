"""What a command is to write is tried before its work: one line, nothing left behind, and what was there as it was."""

import errno
import os
from pathlib import Path

import pytest

from mixmo_fast.cli.targets import require_folder, require_writable
from mixmo_fast.errors import MixmoError

CONFIG = "configs/quickstart.yaml"
# Each command, with its option that names what is written, and the work that must not begin.
FILES = {
    "doctor --json": "mixmo_fast.doctor.examine.examine",
    "evaluate RUN --json": "mixmo_fast.run.evaluate.evaluate_run",
    "evaluate RUN --save-predictions": "mixmo_fast.run.evaluate.evaluate_run",
    "inspect RUN --json": "mixmo_fast.run.inspect.inspect_run",
    "predict RUN IMAGE --json": "mixmo_fast.run.predict.open_predictor",
    "predict RUN IMAGE --csv": "mixmo_fast.run.predict.open_predictor",
    "preview CONFIG --out": "mixmo_fast.run.preview.preview_run",
    "benchmark CONFIG --json": "benchmarks.command.run_benchmark",
    "benchmark CONFIG --plot": "benchmarks.command.run_benchmark",
}
FOLDERS = {
    "evaluate RUN --out": "mixmo_fast.run.evaluate.evaluate_run",
    "inspect RUN --out": "mixmo_fast.run.inspect.inspect_run",
    "report RUN --out": "mixmo_fast.reproduce.reporting.write_comparison",
    "reproduce CONFIG --out": "mixmo_fast.reproduce.command.reproduce",
}


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a file, and a folder, that were there before."""
    (tmp_path / "file").write_text("older")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture
def refused(command, monkeypatch, place):
    """Runs a command whose work, were it begun, would be noticed; returns the line that it ended with."""

    def ask(line: str, work: str, target: Path) -> str:
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("the work has begun"))
        before = listing(place)
        code, out, err = command(*line.split(), target)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert listing(place) == before
        return err

    return ask


@pytest.mark.parametrize("line", FILES)
@pytest.mark.parametrize(
    ("target", "why"),
    [("folder", "Is a directory"), ("file/x.json", "Not a directory"), ("file/deep/x.png", "Not a directory")],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(refused, place, line, target, why):
    path = place / target
    assert refused(line, FILES[line], path) == f"mixmo-fast: {path}: cannot write: {why}\n"


@pytest.mark.parametrize("line", FOLDERS)
@pytest.mark.parametrize("target", ["file", "file/deep"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(refused, place, line, target):
    path = place / target
    assert refused(line, FOLDERS[line], path) == f"mixmo-fast: {path}: cannot write: Not a directory\n"


def test_what_can_be_written_is_tried_without_a_trace(place):
    before = listing(place)
    targets = (place / "file", place / "new", place / "missing" / "deep" / "new", place / ("x" * 250))
    require_writable(None, *targets, Path(os.devnull))
    for folder in (None, place, place / "missing", place / "missing" / "deep"):
        require_folder(folder)
    assert listing(place) == before


def test_a_system_that_lets_nothing_be_written_is_believed(place, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("mixmo_fast.cli.targets.open_own", refuse)
    for ask, path in ((require_writable, place / "new"), (require_writable, place / "file"), (require_folder, place)):
        with pytest.raises(MixmoError, match=f"^{path}: cannot write: Read-only file system$"):
            ask(path)


def test_a_link_to_nowhere_and_a_name_that_is_too_long_are_answered(place):
    (place / "link").symlink_to(place / "nowhere")
    require_writable(place / "link")  # which is replaced itself
    with pytest.raises(MixmoError, match=r"cannot write: File name too long$"):
        require_writable(place / ("x" * 256))
