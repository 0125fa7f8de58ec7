"""Asking the machine: whatever goes wrong becomes an answer."""

import sys
import types
import warnings

import pytest

from mixmo_fast.doctor import machine
from mixmo_fast.doctor.machine import Extra, Gpu


@pytest.fixture
def no_programs(monkeypatch):
    monkeypatch.setattr(machine, "answer", lambda *_, **__: (False, "not asked"))


def test_programs_that_are_missing_slow_or_failing_give_a_reason():
    python = sys.executable
    assert machine.answer(python, "-c", "print('yes')") == (True, "yes")
    assert machine.answer(python, "-c", "import sys; sys.exit('first\\nlast')") == (False, "last")
    assert machine.answer(python, "-c", "raise SystemExit(3)") == (False, "ended with exit status 3")
    assert machine.answer(python, "-c", "import time; time.sleep(9)", limit_s=0.2) == (False, "no answer in 0.2 s")
    found, reason = machine.answer("no-such-program-anywhere")
    assert not found
    assert reason


def test_a_package_that_cannot_be_imported_says_why(monkeypatch, tmp_path):
    (tmp_path / "half_there.py").write_text("raise ImportError('libhalf.so.1: cannot open shared object file')")
    (tmp_path / "all_there.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine.extra("half_there", "half-there").problem == (
        "ImportError: libhalf.so.1: cannot open shared object file"
    )
    assert machine.extra("all_there", "all-there", "numpy") == Extra("numpy", machine.installed("numpy"), found=True)
    assert machine.extra("nowhere.at_all", "nowhere") == Extra("nowhere")
    assert "half_there" not in sys.modules


def a_torch(**cuda: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        version=types.SimpleNamespace(cuda="13.0", hip=None), cuda=types.SimpleNamespace(**cuda)
    )


def test_what_torch_complains_of_while_looking_for_gpus_is_kept(no_programs):
    def old_driver() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=2)
        return False

    def crash() -> bool:
        raise RuntimeError("CUDA unknown error\nmore")

    gpus = machine.read_gpus(a_torch(is_available=old_driver))
    assert (gpus.seen, gpus.built_for) == ((), "CUDA 13.0")
    assert gpus.complaint == "The NVIDIA driver on your system is too old"
    assert machine.read_gpus(a_torch(is_available=crash)).complaint == "CUDA unknown error more"


def test_a_gpu_on_which_a_small_calculation_fails_is_seen_with_its_problem(no_programs):
    def crash(_: int) -> None:
        raise RuntimeError("no kernel image is available\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1")

    properties = types.SimpleNamespace(name="Old", total_memory=2**30, major=3, minor=5)
    torch = a_torch(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda _: properties,
        device=crash,
    )
    assert machine.read_gpus(torch).seen == (Gpu("Old", 2**30, "3.5", False, "no kernel image is available"),)
