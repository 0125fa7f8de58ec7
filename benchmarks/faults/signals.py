"""Trainings that a signal ends at any moment, and that go on to the end: bit for bit what an undisturbed one gives."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.faults.campaign import Campaign, Fault, differing
from benchmarks.faults.commands import ONE_THREAD, PROGRAM, check_words
from mixmo_fast.run.build import PIPELINES
from mixmo_fast.training.checkpoint import load_checkpoint

_RANKS = "2 ranks"
_SETTINGS = ("--device", "cpu", "--no-report", "--set", "step.compile=false", "--set", "batch.rows=16")
_ENDS = {
    signal.SIGTERM: (143, -signal.SIGTERM),
    signal.SIGINT: (130, -signal.SIGINT),
    signal.SIGKILL: (-signal.SIGKILL,),
}


class Signals(Campaign):
    """No traceback, the exit code that the signal has, and at the end the same weights, momentum and epochs."""

    name = "signals"
    title = (
        "SIGTERM, SIGINT and SIGKILL at any moment of a training, in every pipeline and two ranks, then on to the end"
    )
    inputs = 40
    seconds = 400.0

    def prepare(self, small: Path) -> None:
        """Trains what nobody disturbs: one process, whose pipelines all give the same, and two."""
        self.small = small
        self.ways = [*PIPELINES, _RANKS]
        self.expected, self.duration = {}, {}
        for way in (PIPELINES[0], _RANKS):
            runs = small / f"undisturbed {way}"
            shutil.rmtree(runs, ignore_errors=True)
            started = time.monotonic()
            subprocess.run(self._command(way, runs), check=True, capture_output=True, env=ONE_THREAD)
            self.duration[way == _RANKS] = time.monotonic() - started
            self.expected[way == _RANKS] = vars(load_checkpoint(runs / "small" / "checkpoints" / "last.pt"))

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Ends one, once or twice, and lets it go on."""
        way = self.ways[number % len(self.ways)]
        command, said = self._command(way, folder), []
        for _ in range(draw.choice([1, 1, 2])):
            asked = draw.choice(list(_ENDS))
            after = self.duration[way == _RANKS] * draw.uniform(0.1, 1.0)
            said.append(f"{asked.name} after {after:.1f} s")
            code, complaint = _ended_by(command, asked, after)
            if code:  # 0: it was over before
                if way == _RANKS:  # whose launcher is torch's, with words of its own
                    continue
                check_words(code, complaint)
                if code not in _ENDS[asked]:
                    raise Fault(f"exit code {code} after {asked.name}", complaint[-900:])
        done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
        if done.returncode:
            raise Fault(f"does not go on: {way}", f"{said}: {done.stderr[-900:]}")
        found = vars(load_checkpoint(folder / "small" / "checkpoints" / "last.pt"))
        expected = self.expected[way == _RANKS]
        if difference := differing(_science(found), _science(expected)):
            raise Fault(f"goes on to something else: {way}", f"{said}: {difference}")
        return f"{way}: the same"

    def _command(self, way: str, runs: Path) -> list[str]:
        ranks = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "mixmo_fast")
        program = ranks if way == _RANKS else PROGRAM
        pipeline = [] if way == _RANKS else ["--pipeline", way]
        place = ["--data", str(self.small / "data"), "--runs", str(runs)]
        return [*program, "train", str(self.small / "small.yaml"), *_SETTINGS, *place, *pipeline]


def _science(checkpoint: dict) -> dict:
    """What has to be the same: everything but the epochs' times."""
    return {key: value for key, value in checkpoint.items() if key not in ("history", "config")}


def _ended_by(command: list[str], asked: signal.Signals, after: float) -> tuple[int, str]:
    """Its exit code, and what it said on stderr."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ONE_THREAD, start_new_session=True, **streams) as one:
        try:
            _, complaint = one.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            if asked == signal.SIGTERM:
                one.send_signal(asked)
            else:  # a terminal's Ctrl-C and a machine's end come to all processes
                os.killpg(one.pid, asked)
            _, complaint = one.communicate(timeout=120)
    return one.returncode, complaint
