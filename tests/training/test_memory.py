"""Peak memory: a GPU's is torch's count, a process's is its own, and a run's is the highest of its epochs."""

import subprocess
import sys

import torch

from mixmo_fast.runfolder.records import Epoch, PeakMemory
from mixmo_fast.training.memory import highest, peak_memory

CODE = """
import torch
from mixmo_fast.training.memory import peak_memory
print(peak_memory(torch.device("cpu")).process_peak_resident_bytes)
"""


def test_a_process_counts_what_it_held_and_not_what_its_parent_did():
    held = bytearray(b"x") * 2**30
    own = peak_memory(torch.device("cpu")).process_peak_resident_bytes
    child = int(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout)
    assert child < len(held) < own


def test_a_gpus_peaks_are_named_as_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1_430_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 2_000_000_000)
    peak = peak_memory(torch.device("cuda"))
    assert peak.as_dict() == {"gpu_peak_allocated_bytes": 1_430_000_000, "gpu_peak_reserved_bytes": 2_000_000_000}
    assert peak.in_words() == "GPU memory 1.4 GB" and peak.in_gigabytes() == "1.4 GB"


def test_a_runs_peak_is_the_highest_of_its_epochs_in_whatever_processes():
    history = [Epoch(epoch=epoch, process_peak_resident_bytes=peak) for epoch, peak in ((1, 3), (2, 5), (3, 4))]
    assert highest([Epoch(epoch=0), *history]) == PeakMemory(process_peak_resident_bytes=5)
    assert highest([Epoch(epoch=0)]).as_dict() == {}
    assert PeakMemory().in_words() == ""
