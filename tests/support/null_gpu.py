"""Builds the null GPU once and runs programs under it, each in a process of its own."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from places import REPOSITORY, TESTS

PROGRAMS = TESTS / "nullgpu"
_SECONDS = 280


def missing() -> str | None:
    """Why there can be no null GPU here, or None."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return "the null GPU is for Linux on x86-64"
    if not shutil.which("gcc"):
        return "no gcc to build the null GPU"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if torch.version.cuda is None or not torch.version.cuda.startswith("13."):
        return f"torch is built for CUDA {torch.version.cuda}, and the null GPU is one of CUDA 13"
    if torch.cuda.is_available():
        return "a real GPU is here"
    return None


@cache
def _folder() -> Path:
    """Where the library lies: one place for all processes that test at the same time."""
    folder = Path(tempfile.gettempdir()) / f"mixmo-fast-nullgpu-{os.getuid()}"
    source = PROGRAMS / "nullgpu.c"
    library = folder / sha256(source.read_bytes()).hexdigest()[:12] / "libcuda.so.1"  # checkouts may differ
    folder.mkdir(mode=0o700, exist_ok=True)
    library.parent.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_file():
            fresh = library.with_name("fresh.so")
            command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(fresh), str(source), "-ldl", "-lpthread"]
            subprocess.run(command, check=True)
            fresh.replace(library)
    return library.parent


def run(program: str, *arguments: object, **more: str) -> Any:
    """Runs a program of this folder on the null GPU, and returns the JSON that it printed last.

    Args:
        program: Its name.
        arguments: JSON.
        more: Of its environment.

    Raises:
        AssertionError: When it fails, with the end of what it said.
    """
    folder = _folder()
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder),
        "LD_PRELOAD": str(folder / "libcuda.so.1"),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(PROGRAMS), str(TESTS / "support")]),
        **more,
    }
    command = [sys.executable, str(PROGRAMS / f"{program}.py"), json.dumps(arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, f"{program} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])
