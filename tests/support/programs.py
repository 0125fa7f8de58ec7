"""Programs that tests start: how long one computes."""

import os
import subprocess


def run_timed(command: list[str], **options) -> tuple[subprocess.CompletedProcess, float]:
    """Runs a program to its end, which has to be a good one.

    Returns:
        What it said, and its seconds of processor time, which hardly depend on what else this machine does.
    """
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    after = os.times()
    return done, after.children_user - before.children_user + after.children_system - before.children_system
