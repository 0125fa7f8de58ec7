"""What several test files share, and how tests are dealt out where several processes run them (`make test`)."""

import gc
import getpass
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
import numba
import pytest
import torch
from fashion import FOLDER
from lab import Lab
from runs_lab import PRETENDER

from mixmo_fast.cli import app as cli
from mixmo_fast.cores import available_cores
from mixmo_fast.reproduce import local
from mixmo_fast.reproduce.jobs import Launch
from pipelines.datasets.convert import convert

# torch's own choice, so that trainings of tests leave nothing in the user's cache folder.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}")


# How long an example takes says nothing on a machine that does other things, or compiles a kernel for the first one.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return available_cores()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are dealt out whole; those with the most slow tests come first, so that all processes end together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A data folder with the converted digits; nobody writes into it."""
    folder = tmp_path_factory.mktemp("data")
    convert("digits", folder, notify=lambda _: None)
    return folder


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's files; tests that use it are marked `needs_fashion_mnist`."""
    return FOLDER


@pytest.fixture
def lab(tmp_path, digits) -> Lab:
    return Lab(tmp_path, digits)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, digits) -> Lab:
    """A finished run that tests only look at."""
    place = Lab(tmp_path_factory.mktemp("trained"), digits)
    place.train()
    return place


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `mixmo-fast` in this process: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mixmo-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
            sys.exit(0)
        return stopped.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def launch(tmp_path, digits) -> Launch:
    """How a reproduction of tiny runs is launched."""
    return Launch(tmp_path / "out", digits, "cpu", 2, pause=0.05)


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """Makes the local engine's children run a script instead of a training; `number` is that of the attempt."""

    def install(body: str) -> None:
        script = tmp_path / "pretender.py"
        script.write_text(PRETENDER % body)
        monkeypatch.setattr(
            local, "arguments_of", lambda config, folder, *_: [sys.executable, str(script), str(config), str(folder)]
        )

    return install


@pytest.fixture
def ffcv():
    """FFCV itself, where it is installed."""
    threads = torch.get_num_threads(), numba.get_num_threads()
    module = pytest.importorskip("ffcv")
    # Importing FFCV, and using it, sets torch's and numba's number of threads; results depend on it.
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])
    yield module
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])
    # The functions that FFCV compiles complain when they are finalised; here, and not in somebody else's test.
    gc.collect()
