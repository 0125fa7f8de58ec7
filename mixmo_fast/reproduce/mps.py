"""CUDA's Multi-Process Service (MPS): kernels of several processes run on one GPU at the same time, not by turns.

A daemon that is there already is used and left alone. Otherwise one of our own is started, whose pipes lie in a folder
of its own, so that it serves our children and nobody else; it ends with us, however we end.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mixmo_fast.reproduce.gpu_memory import free_on_gpu
from mixmo_fast.reproduce.jobs import Notify, last_line

PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_CONTROL = "nvidia-cuda-mps-control"

_BY_TURNS = "runs share a GPU by time slices"
_PATIENCE = 20.0  # seconds for the daemon to answer, or to quit
_ATTEMPTS, _PAUSE = 3, 2.0  # seconds between; a server that is still starting turns processes away
_PLACE = "/tmp"  # whatever TMPDIR is: the path of a socket may have 107 characters

# It waits for the end of its input, which comes when this process closes it or is gone, even by SIGKILL.
# The daemon may still write there when it has said that it quits.
_GUARD = 'read -r _; echo quit | "$0"; for _ in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done'


@contextlib.contextmanager
def multi_process_service(notify: Notify) -> Iterator[dict[str, str]]:
    """Lets children use MPS while a block of code lasts, where it can be had; all of them must have ended by its end.

    Args:
        notify: Told in one line whether it is used, and why not.

    Yields:
        What the children's environment needs more; nothing where there is no MPS, or where they find it by themselves.
    """
    program = shutil.which(_CONTROL)
    if os.environ.get(PIPES):
        notify(f"MPS: the daemon of {PIPES}={os.environ[PIPES]} is used, and left alone")
        yield {}
    elif program is None:
        notify(f"MPS: {_CONTROL} is not on PATH; {_BY_TURNS}")
        yield {}
    elif _answers(program):
        notify("MPS: the daemon that runs here already is used, and left alone")
        yield {}
    else:
        with _own_daemon(program, notify) as more:
            yield more


def _answers(program: str) -> bool:
    """Whether there is a daemon at the place where CUDA looks for one."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run([program], input=b"get_server_list\n", capture_output=True, timeout=_PATIENCE)
        return asked.returncode == 0
    return False


@contextlib.contextmanager
def _own_daemon(program: str, notify: Notify) -> Iterator[dict[str, str]]:
    """A daemon of our own, and the environment of its children; an empty one where it does not work."""
    try:
        folder = tempfile.mkdtemp(prefix="mixmo-mps-", dir=_PLACE)
    except OSError as error:
        notify(f"MPS: {_PLACE}: cannot write: {error.strerror}; {_BY_TURNS}")
        yield {}
        return
    more = {PIPES: folder, LOGS: folder}
    # Numbers of GPUs would mean others to the children if the daemon itself saw some of them alone.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | more
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, program, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        complaint = _start(program, folder, environment) or _refusal(os.environ | more)
        if not complaint:
            notify(f"MPS: started, in {folder} till the end of all runs")
            yield more
            return
    finally:
        _end(guard, folder, notify)
    notify(f"MPS: {complaint}; {_BY_TURNS}")
    yield {}


def _start(program: str, folder: str, environment: Mapping[str, str]) -> str:
    """Starts the daemon; its complaint, in one line, or empty."""
    said = Path(folder) / "said.txt"  # no pipe, which the daemon would keep open
    try:
        with said.open("w") as file:
            command = [program, "-d"]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, timeout=_PATIENCE
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    return "" if done.returncode == 0 else last_line(said) or f"{_CONTROL} -d: exit code {done.returncode}"


def _refusal(environment: Mapping[str, str]) -> str:
    """Why a process cannot use a GPU through the daemon, which may be started where its servers may not; or empty."""
    complaint = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        free, complaint = free_on_gpu(environment)
        if free is not None:
            return ""
    return complaint


def _end(guard: subprocess.Popen, folder: str, notify: Notify) -> None:
    try:
        guard.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        notify(f"MPS: its daemon has not quit yet; `echo quit | {PIPES}={folder} {_CONTROL}` asks it again")
