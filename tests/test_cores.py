"""How many cores there are to use, on machines of all kinds."""

import os

import pytest
import torch

from mixmo_fast import cores
from mixmo_fast.training.options import StepOptions, set_switches
from mixmo_fast.training.precision import Precision


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Eight cores, and control groups in files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_CONTROL_GROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "found"), [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("", 8)]
)
def test_a_container_has_as_many_cores_as_it_has_time_for(container, limit, found):
    (container / "cpu.max").write_text(limit + "\n")
    assert cores.available_cores() == found


@pytest.mark.parametrize(("quota", "found"), [("-1", 8), ("300000", 3), ("1600000", 8)])
def test_so_it_has_with_control_groups_of_version_1(container, quota, found):
    (container / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (container / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available_cores() == found


def test_without_control_groups_all_allowed_cores_count(container, monkeypatch):
    assert cores.available_cores() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available_cores() == 1


def test_training_uses_no_more_threads_than_that(container):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        set_switches(StepOptions(Precision("fp32", "cpu")), torch.device("cpu"))
        assert torch.get_num_threads() == 2
        (container / "cpu.max").write_text("100000 100000\n")
        set_switches(StepOptions(Precision("fp32", "cpu")), torch.device("cpu"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
