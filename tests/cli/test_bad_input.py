"""Bad input of many kinds, to every command that takes a place, a name or a number: one line and exit code 2."""

import os

import pytest
from lab import CONFIG

from pipelines.datasets.catalog import DATASETS

STRANGE = [
    *("", " ", "nope", "näme", "日本", "*", "[a-z]", "-1", "0", "1e400", "9" * 40, "nan", "None", "1.5", "a,b", ","),
    *("folder", "file.txt", "empty.yaml", "x" * 300, "a/b/c/d", os.fsdecode(b"\xff"), "a\tb", "a\nb", "%s", "{}", "--"),
    *("http://example.com/x.yaml", "C:\\x", "dangling", "../..", "/dev/null", "٣", "key", "=", "'", "~", "9" * 5000),
]
PLACES = [
    *("train {}", "evaluate {}", "inspect {}", "predict {} x", "export {} --format onnx", "checkpoint export {} -o x"),
    *("preview {} -o x.png", "benchmark {}", "config explain {}", "config import {} -o x", "reproduce {} --dry-run"),
    *("status {}", "report {} -o x", "config new {} -o x", "convert {}", "convert folder {} --name x"),
]
VALUES = [
    *("train good.yaml --name {} --init nope", "train good.yaml --init {}", "train good.yaml --set {} --init nope"),
    *("train good.yaml --seed {} --init nope --profile 0", "train good.yaml --pipeline {} --init nope --profile 0"),
    *("train good.yaml --device {} --profile 0", "train good.yaml --profile {} --init nope"),
    *("evaluate good.yaml --runs {}", "evaluate good.yaml --checkpoint {}", "evaluate good.yaml --ensemble {}"),
    *(
        "evaluate good.yaml --precision {}",
        "evaluate good.yaml --calibrate-on {}",
        "evaluate good.yaml --mce-against {}",
    ),
    *("export good.yaml --format {}", "export good.yaml --format onnx --checkpoint {}"),
    *("reproduce good.yaml --dry-run --scale {} --gpus 0", "reproduce good.yaml --dry-run --seeds {} --gpus 0"),
    *("reproduce good.yaml --dry-run --runs-per-gpu {} --gpus 0", "reproduce good.yaml --dry-run --measured {}"),
    *("preview good.yaml -o x.png --epoch {} --rows-shown 0", "preview good.yaml -o x.png --rows-shown {} --epoch 99"),
    *("benchmark good.yaml --pipelines {} --steps -1", "benchmark good.yaml --rows {} --steps -1"),
    *("convert cifar10 --source {}/x", "convert folder folder --name {}", "convert folder . --name x --fit {}x"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that commands are started in, with some things that are not what they want."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "good.yaml").write_text(CONFIG)
    (tmp_path / "dangling").symlink_to("nowhere")
    started = tmp_path / "some" / "where"
    started.mkdir(parents=True)
    for path in ("folder", "file.txt", "empty.yaml", "good.yaml", "dangling"):
        (started / path).symlink_to(f"../../{path}")
    monkeypatch.chdir(started)
    return started


@pytest.mark.parametrize("line", PLACES + VALUES)
def test_strange_input_is_one_line(command, folder, line):
    for strange in STRANGE:
        words = [word.replace("{}", strange) for word in line.split()]
        code, out, err = command(*words)
        assert (code, err.count("\n")) == (2, 1), (strange, out, err)
        assert err.startswith("mixmo-fast: ") and err.rstrip("\n").isprintable() and len(err) < 6000, strange


@pytest.mark.parametrize("name", DATASETS)
def test_originals_that_are_not_there_are_said_to_be_not_there(command, tmp_path, name):
    code, _, err = command("convert", name, "--source", "/nowhere", "--data", tmp_path)
    wanted = (
        "digits comes with the program" if name == "digits" else "--source /nowhere does not exist: name the originals"
    )
    assert code == 2 and err.startswith(f"mixmo-fast: {wanted}") and list(tmp_path.iterdir()) == []


def test_an_empty_archive_is_a_short_line(command, tmp_path):
    (tmp_path / "empty.tar").touch()
    _, _, err = command("convert", "cifar10", "--source", tmp_path / "empty.tar", "--data", tmp_path)
    assert err.endswith("empty.tar: cut short or damaged (file could not be opened successfully): fetch it again\n")


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "."])
def test_measurements_are_read_from_files_alone(command, folder, place):
    code, _, err = command("reproduce", "good.yaml", "--dry-run", "--measured", place)
    assert code == 2 and err.startswith(f"mixmo-fast: --measured {place}: cannot read: ")
