"""What `make` offers, with programs that only note how they were called: nothing is installed here."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from places import REPOSITORY

TOOLS = ("awk", "cat", "cksum", "cp", "make", "mkdir", "rm", "sh", "touch", "tr")
MISSING = {
    "setup-ffcv": "libturbojpeg0-dev libopencv-dev pkg-config g++",
    "setup-browser": "chromium-headless-shell",
    "setup-fashion-mnist": "dataset-fashion-mnist",
}


@dataclass
class Place:
    """A copy of the Makefile, and a folder that is all of its PATH."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, script: str = "") -> None:
        """A program that writes down its arguments, and does what a script says."""
        path = self.folder / "programs" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.folder}/calls\n{script}\n')
        path.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = {"PATH": str(self.folder / "programs"), **self.environment}
        command = ["make", "--no-print-directory", "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self, name: str) -> list[str]:
        """With which arguments a program was called."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def place(tmp_path) -> Place:
    """A machine that has next to nothing, and a user who is not root."""
    made = Place(tmp_path, {"MIXMO_FASHION_MNIST": str(tmp_path / "nowhere")})
    (tmp_path / "programs").mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for tool in TOOLS:
        (tmp_path / "programs" / tool).symlink_to(shutil.which(tool))
    made.program("id", "echo 1000")
    made.program("pkg-config", "exit 1")
    made.program("apt-get")
    copied = f'mkdir -p "$4/bin" && cp {tmp_path}/programs/python3 "$4/bin/python"'
    made.program("python3", f'[ "$1 $2" != "-m venv" ] || {{ {copied}; }}')
    return made


def test_the_help_has_every_target_in_one_style(place):
    lines = place.make().stdout.splitlines()
    assert place.make("help").stdout.splitlines() == lines
    listed = [re.fullmatch(r"  make ([a-z-]+) +([a-z].*[^.])", line)[1] for line in lines]
    text = (REPOSITORY / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)", text, flags=re.MULTILINE)[1].split()
    assert sorted(listed) == sorted(set(phony) - {"ffcv-libraries"})
    assert len({len(line) - len(line.split(maxsplit=2)[2]) for line in lines}) == 1  # one column


@pytest.mark.parametrize("target", MISSING)
def test_who_is_not_root_is_told_in_a_line_what_to_install(place, target):
    done = place.make(target)
    line, of_make = done.stderr.splitlines()
    assert done.returncode == 2 and of_make.startswith("make: ***") and done.stdout == ""
    assert re.fullmatch(rf"\S[^:]*: sudo apt-get install {re.escape(MISSING[target])}, or \S.*", line)
    assert place.calls("apt-get") == place.calls("python3 -m") == []


@pytest.mark.parametrize("target", MISSING)
def test_root_gets_it_by_apt(place, target):
    place.program("id", "echo 0")
    done = place.make(target)
    assert done.returncode == 0, done.stderr
    assert place.calls("apt-get") == ["update -qq", f"install -y -qq {MISSING[target]}"]


@pytest.mark.parametrize("target", MISSING)
def test_root_without_apt_is_told_too(place, target):
    place.program("id", "echo 0")
    (place.folder / "programs" / "apt-get").unlink()
    done = place.make(target)
    assert done.returncode == 2 and f"install {MISSING[target]}, or " in done.stderr


@pytest.mark.parametrize("target", MISSING)
def test_what_is_there_needs_nobody(place, target):
    place.program("pkg-config")
    place.program("c++")
    place.environment["CXX"] = "c++"  # as conda names its compiler
    place.program("chromium")
    (place.folder / "nowhere").mkdir()
    (place.folder / "nowhere" / "t10k-images-idx3-ubyte.gz").touch()
    done = place.make(target)
    assert (done.returncode, done.stderr) == (0, "")
    assert place.calls("apt-get") == []
    assert any("--editable .[ffcv]" in call for call in place.calls("python3")) == (target == "setup-ffcv")


@pytest.mark.parametrize("environment", ["env", "folder/env", "../env", "{folder}/env"])
def test_the_environment_may_be_anywhere_and_is_made_once(place, environment):
    environment = environment.format(folder=place.folder)
    (place.folder / "below").mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, place.folder / "below")
    for _ in range(2):
        done = place.make("-C", "below", "setup", f"VENV={environment}")
        assert done.returncode == 0, done.stderr
    assert len([call for call in place.calls("python3") if call.startswith("-m venv")]) == 1
    assert (place.folder / "below" / environment / "bin" / "python").is_file()
