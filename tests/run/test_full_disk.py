"""Every command on a disk that is full: one line, exit code 2, the older files whole, and nothing left over."""

import errno
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from authors_form import authors_file
from lab import Lab
from small_disk import fill_disk, room_for, state

from mixmo_fast.doctor.findings import Finding

NAME = "exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"
WRITES = {
    "preview": ("preview", "{config}", "--data", "{data}", "-o", "{out}/main.png"),
    "preview, as SVG": ("preview", "{config}", "--data", "{data}", "-o", "{out}/main.svg"),
    "doctor": ("doctor", "--data", "{data}", "--json", "{out}/main.json"),
    "evaluate": ("evaluate", "{run}", "--data", "{data}", "--json", "{out}/main.json"),
    "predictions": ("evaluate", "{run}", "--data", "{data}", "--save-predictions", "{out}/main.npz"),
    "pictures": ("evaluate", "{run}", "--data", "{data}", "--out", "{out}"),
    "inspect": ("inspect", "{run}", "--data", "{data}", "--out", "{out}"),
    "predict": ("predict", "{run}", "{run}/first_batch.png", "--data", "{data}", "--csv", "{out}/main.csv"),
    "report": ("report", "{run}"),
    "config new": ("config", "new", NAME, "-o", "{out}", "--force"),
    "config import": ("config", "import", "{authors}", "-o", "{out}/main.yaml", "--force"),
    "checkpoint export": ("checkpoint", "export", "{run}", "-o", "{out}/main.ckpt", "--force"),
    "export onnx": ("export", "{run}", "--format", "onnx", "-o", "{out}/main.onnx", "--force"),
    "export safetensors": ("export", "{run}", "--format", "safetensors", "-o", "{out}/main", "--force"),
}
NEEDS = {"export onnx": "onnxruntime", "export safetensors": "safetensors"}


@pytest.fixture
def place(trained, digits, tmp_path) -> Lab:
    """A copy of the shared run, which may be written to."""
    copy = Lab(tmp_path, digits)
    shutil.copytree(trained.run, copy.run)
    (tmp_path / "out").mkdir()
    (tmp_path / "authors.yaml").write_text(authors_file(NAME))
    return copy


def go_back(place: Lab) -> None:
    """Makes of a finished run one that has come to epoch 2 of 4."""
    shutil.copyfile(place.path("epoch_0002"), place.path("last"))
    (place.run / "summary.json").unlink()


@pytest.mark.parametrize("what", WRITES)
def test_a_command_on_a_full_disk_is_one_line_and_leaves_what_was_there(place, command, monkeypatch, what):
    found = [Finding("machine", "Python", "ok", "3.11")]
    monkeypatch.setattr("mixmo_fast.doctor.examine.examine", lambda *_: found)  # which takes seconds
    if what in NEEDS and not find_spec(NEEDS[what]):
        pytest.skip(f"needs {NEEDS[what]}")
    out = place.folder / "out"
    places = {"config": place.config, "data": place.data, "run": place.run, "out": out}
    words = [word.format(authors=place.folder / "authors.yaml", **places) for word in WRITES[what]]
    code, _, err = command(*words)
    assert code == 0, err
    written = [path for path in out.rglob("*") if path.is_file()] or [place.run / "report.html"]
    before, largest = state(place.folder), max(path.stat().st_size for path in written)
    for limit in (0, largest // 2, largest - 1):
        with room_for(limit):
            code, _, err = command(*words)
        (line,) = err.splitlines()
        assert code == 2 and line.startswith(f"mixmo-fast: {place.folder}") and ": cannot write" in line
        assert line.endswith("may not become so large here (ulimit -f), raise that or write to another disk") or (
            "earlier ones are untouched" in line
        )
        assert state(place.folder) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 3000, 30_000])
def test_training_on_a_full_disk_is_one_line_and_goes_on_once_there_is_room(place, command, monkeypatch, number, room):
    """The disk fills up in the configuration, in the log, in a checkpoint."""
    go_back(place)
    before = state(place.run)
    words = ("train", place.config, "--data", place.data, "--runs", place.run.parent, "--device", "cpu", "--no-report")
    with monkeypatch.context() as patched:
        fill_disk(patched, number, room)
        code, _, err = command(*words)
    assert code == 2 and "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith(f"mixmo-fast: {place.run}") and ("disk is full" in line or "quota is used up" in line)
    after = state(place.run)
    assert before.keys() <= after.keys() and not [name for name in after if "/." in f"/{name}"]
    assert {name: after[name] for name in before if name.endswith(".pt")} == {
        name: content for name, content in before.items() if name.endswith(".pt")
    }
    assert command(*words)[0] == 0
    assert (place.run / "summary.json").is_file()


def test_what_killed_writers_of_checkpoints_left_is_gone_once_the_run_goes_on(place):
    go_back(place)
    folder = place.run / "checkpoints"
    ours = [".last.pt.tmp", ".last.pt.link", ".best.pt.tmp-another-1-0123abcd-0123abcd", ".epoch_0002.pt.link"]
    for name in (*ours, ".somebody.tmp", ".last.pt.txt"):
        (folder / name).write_text("half")
    place.train()
    assert sorted(path.name for path in folder.glob(".*")) == [".last.pt.txt", ".somebody.tmp"]


def victims_of(run: Path, victims: Path) -> dict[str, bytes]:
    """Moves every file of a run folder elsewhere, and lays a link to it in its place."""
    for path in [path for path in sorted(run.rglob("*")) if path.is_file()]:
        moved = victims / path.relative_to(run)
        moved.parent.mkdir(parents=True, exist_ok=True)
        path.rename(moved)
        path.symlink_to(moved)
    return state(victims)


def test_nothing_is_written_through_links_in_a_run_folder(place, command):
    where = ("--data", place.data, "--runs", place.run.parent, "--device", "cpu")
    go_back(place)
    runs = {
        "train": ("train", place.config, *where),
        "evaluate": ("evaluate", place.config, *where),
        "inspect": ("inspect", place.config, *where),
        "report": ("report", place.run),
    }
    for name, words in runs.items():
        before = victims_of(place.run, place.folder / name)
        code, _, err = command(*words)
        assert code == 0, err
        assert state(place.folder / name) == before
        written = [path for path in place.run.rglob("*") if path.is_file() and not path.is_symlink()]
        assert written, name
    names = {path.name for path in (place.folder / "report").rglob("*")}
    assert names >= {"summary.json", "metrics.jsonl", "metrics.csv", "evaluation.json", "inspection.json"}
    assert names >= {"report.html", "last.pt", "first_batch.png", "config.yaml", "environment.json"}
