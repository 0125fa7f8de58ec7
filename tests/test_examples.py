"""The scripts in `examples/` do what they say, from an empty folder."""

import re
import runpy
import sys

import pytest
from places import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def example(tmp_path, digits, monkeypatch, capsys):
    """Runs a script beside the configurations and the digits, and returns what it printed."""
    (tmp_path / "data").symlink_to(digits)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        *("own_data.py", "own_loop.py", "own_network.py", "read_a_run.py"),
    }


def test_a_loop_of_ones_own_learns(example):
    losses = [float(loss) for loss in re.findall(r"loss of the last step (\S+)", example("own_loop.py", 2))]
    assert len(losses) == 2 and losses[1] < losses[0]


def test_a_network_of_ones_own_learns(example):
    top1 = [float(percent) for percent in re.findall(r"(\S+) %", example("own_network.py", 2))]
    assert len(top1) == 4 and min(top1) > 20  # ten classes


def test_images_of_ones_own_are_learned(example):
    printed = example("own_data.py", 4)
    assert float(re.search(r"together: (\S+) %", printed)[1]) > 50
    assert "images (64, 6, 8, 8), labels (64, 2, 2)" in printed


def test_a_run_is_read(example, trained):
    printed = example("read_a_run.py", trained.run)
    assert "wide_resnet-10-1, 2 subnetworks" in printed and "rows/s" in printed
    assert len(re.findall(r"^ +\d  0\.\d{5} ", re.sub(" {2,}", "  ", printed), re.MULTILINE)) == 4
