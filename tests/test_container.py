"""The Dockerfile, read and, as far as pip goes, run; whether an image comes of it, only Docker can say."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import pytest
from dockerfile import arguments, instructions
from places import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
OF_SHELLS = {"packages", "PATH"}
KNOWN = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


def rests(name: str) -> list[str]:
    return [rest for one, rest in instructions() if one == name]


def test_it_begins_with_a_base_and_ends_as_nobody_special():
    names = [name for name, _ in instructions()]
    assert set(names) <= KNOWN
    assert names[:2] == ["ARG", "FROM"] and names.count("FROM") == 1
    assert rests("FROM") == ["${BASE}"] and arguments()["BASE"] == "python:3.11-slim"
    (user,) = rests("USER")
    assert any(f"useradd --create-home {user}" in rest for rest in rests("RUN"))
    assert "RUN" not in names[names.index("USER") :]


def test_it_starts_the_command_without_a_shell():
    (entry,), (volumes,) = rests("ENTRYPOINT"), rests("VOLUME")
    assert json.loads(entry) == list(PROJECT["project"]["scripts"])
    assert rests("WORKDIR")[-1] == "/mixmo"
    assert json.loads(volumes) == ["/mixmo/data", "/mixmo/runs"]  # where commands look for them


def test_what_it_copies_is_there_and_not_ignored():
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for rest in rests("COPY") for source in shlex.split(rest)[:-1]}
    assert copied == let_in
    assert all((REPOSITORY / source).exists() for source in copied)
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert all(any(fnmatch.fnmatch(name, package) for name in copied) for package in packages)
    assert copied >= {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "configs", "examples"}


def test_every_name_that_it_reads_is_one_that_it_has():
    declared = set(arguments()) | {pair.partition("=")[0] for rest in rests("ENV") for pair in shlex.split(rest)}
    text = "\n".join(rest for _, rest in instructions())
    read = set(re.findall(r"\$\{?(\w+)", text))
    assert read - OF_SHELLS <= declared
    assert set(arguments()) - read == {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}  # which pip reads
    assert "://" not in text


def test_every_line_is_one_that_a_shell_understands():
    for rest in rests("RUN"):
        done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), rest


def test_its_words_for_documents_extras_and_packages_are_those_of_the_project():
    text = (REPOSITORY / "Dockerfile").read_text()
    (document,) = re.findall(r"docs/\S+", text)
    assert "docker build" in (REPOSITORY / document).read_text()
    named = re.search(r"^# Of pyproject.toml, with commas between: (.*)\.$", text, flags=re.MULTILINE)[1].split(", ")
    assert named == [extra for extra in PROJECT["project"]["optional-dependencies"] if extra != "test"]
    of_ffcv = re.search(r"\*,ffcv,\*\) packages=\"\$packages (.*)\" ;;", text)[1]
    assert f",{of_ffcv} g++," in (REPOSITORY / "Makefile").read_text()


@pytest.mark.parametrize(
    ("extras", "there", "installed"),
    [
        ("", True, "gcc g++"),
        ("timm,dali", True, "gcc g++"),
        ("timm,ffcv", False, "gcc g++ python3-dev python3-venv libturbojpeg0-dev libopencv-dev pkg-config"),
    ],
)
def test_it_installs_what_extras_and_base_want(tmp_path, extras, there, installed):
    for name in ("apt-get", "rm", *(["python3"] if there else [])):
        (tmp_path / name).write_text(f'#!/bin/sh\n[ {name} != apt-get ] || echo "$*"\n')
        (tmp_path / name).chmod(0o755)
    command = [shutil.which("sh"), "-c", rests("RUN")[0]]
    said = subprocess.check_output(command, env={"PATH": str(tmp_path), "EXTRAS": extras}, text=True)
    assert said.splitlines()[-1].partition("--no-install-recommends ")[2] == installed


@pytest.mark.slow
@pytest.mark.parametrize("extras", ["", "timm,export"])
def test_its_pip_lines_install_a_command_that_runs(tmp_path, extras):
    """Without a network: in a new environment that has this one's packages, this project not among them."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    source.mkdir()
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"EXTRAS": extras, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    variables |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = shlex.quote(sys.executable)

    def run(command: str) -> str:
        command = command.replace("/opt/mixmo-fast", str(environment)).replace("python3 -m venv", f"{python} -m venv")
        done = subprocess.run(
            ["sh", "-ec", command], cwd=source, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    for name, rest in instructions():
        if name == "COPY":
            *names, target = shlex.split(rest)
            for one in names:
                if (REPOSITORY / one).is_dir():
                    shutil.copytree(REPOSITORY / one, source / one, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(REPOSITORY / one, source / target)
        elif name == "RUN" and rest.startswith(("python3", "pip")):
            run(rest)
            if rest.startswith("python3"):
                (packages,) = environment.glob("lib/python*/site-packages")
                (packages / "those_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
                for older in packages.glob("setuptools*"):  # than pyproject.toml builds with
                    shutil.rmtree(older)
    (packages,) = environment.glob("lib/python*/site-packages")
    assert (packages / "mixmo_fast" / "report" / "templates" / "page.css").is_file()
    assert {"pipelines", "benchmarks"} <= {path.name for path in packages.iterdir()}
    shutil.move(source / "configs", tmp_path)
    run("cd .. && mixmo-fast convert digits && mixmo-fast config explain configs/quickstart.yaml")
    assert (tmp_path / "data" / "digits" / "dataset.json").is_file()
