"""`mixmo-fast benchmark`: its numbers are the contestants' own, and nothing keeps running behind it."""

import io
import json
import os
import time
from itertools import chain
from pathlib import Path

import pytest
from lab import CONFIG
from rich.console import Console

from benchmarks.command import run_benchmark
from benchmarks.machine import copy_bandwidth, memory_of_group
from benchmarks.pipelines import DEFINITIONS, _Process
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.run import build


@pytest.fixture
def run(lab):
    """Runs the benchmark of the lab's configuration; returns its result and what it printed."""

    text = CONFIG.replace("rows: 64", "rows: 64, repetitions: 2").replace(
        "precision: fp32", "precision: fp32, compile: false"
    )
    lab.config.write_text(text)

    def benchmark(**options):
        printed = io.StringIO()
        wanted = {"pipelines": "resident,reference", "repetitions": 2, "seconds": 0.05, "workers": 1}
        result = run_benchmark(lab.config, lab.data, Console(file=printed, width=200), **wanted | options)
        return result, printed.getvalue()

    return benchmark


def processes_of_ours() -> list[str]:
    """The contestants that this process has started."""
    children = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    return [one for one in chain(*children) if b"benchmarks.contestant" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.campaign
def test_each_number_of_rows_has_its_medians_and_ratios(run, tmp_path):
    result, printed = run(rows="32,128", json_file=tmp_path / "out" / "b.json", plot=tmp_path / "b.png")
    assert json.loads((tmp_path / "out" / "b.json").read_text()) == result
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert list(result["row_counts"]) == ["32", "128"] and result["rows"] == 32
    assert result["contestants"] == result["row_counts"]["32"]["contestants"]
    assert result["definitions"].keys() == DEFINITIONS.keys()
    for panel in result["row_counts"].values():
        resident, reference = panel["contestants"]["resident"], panel["contestants"]["reference"]
        for one in (resident, reference):
            assert len(one["rows_per_second_all"]) == 2
            assert one["rows_per_second_min"] <= one["rows_per_second"] <= one["rows_per_second_max"]
            # The lab's recipe: two members, each mixed with a partner half of the time; 16 x 16 pixels.
            assert one["images_per_second"] == pytest.approx(3 * one["rows_per_second"])
            assert one["megabytes_per_second"] == pytest.approx(one["rows_per_second"] * 6 * 256 * 4 / 1e6)
            moved = one["rows_per_second"] * (3 * 768 + 6 * 256 * 4)
            assert one["share_of_copy_bandwidth"] == pytest.approx(moved / result["copy_bytes_per_second"])
            assert one["first_batch_seconds"] > 0
        ratio = panel["ratios"]["resident/reference"]
        assert ratio == pytest.approx(resident["rows_per_second"] / reference["rows_per_second"])
        assert ratio > 1
    assert "resident" in printed and "rows/s" in printed
    assert not processes_of_ours()


@pytest.mark.slow
def test_training_steps_are_timed_on_new_and_on_frozen_batches(run):
    result, printed = run(pipelines="resident", repetitions=1, steps=2)
    resident = result["contestants"]["resident"]
    assert resident["step_ratio"] == pytest.approx(resident["step_seconds"] / resident["frozen_step_seconds"])
    assert result["ratios"] == {}
    assert "step/frozen" in printed


@pytest.mark.slow
def test_random_images_stand_in_for_a_data_set_and_leave_nothing_behind(run, lab, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    result, _ = run(pipelines="resident", repetitions=1, synthetic="digits")
    assert result["data"] == "random images in the shape of digits"
    assert not list(tmp_path.glob("mixmo-fast-*"))


def test_a_pipeline_that_cannot_start_is_left_out_with_its_reason(run, monkeypatch):
    monkeypatch.setattr(_Process, "ask", refuse_all)
    with pytest.raises(MixmoError, match=r"no pipeline could be started: resident needs what is not there"):
        run(pipelines="resident")


def refuse_all(self, request):
    raise MixmoError(f"{self.name} needs what is not there")


def test_a_contestant_that_dies_is_named_with_its_last_words():
    with _Process("dali") as process, pytest.raises(MixmoError, match=r"the process of dali ended: .*KeyError"):
        process.ask({"nothing": "it knows"})


def state_of(process: _Process) -> str:
    return Path(f"/proc/{process._process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_contestants_stand_still_between_their_turns():
    with _Process("resident") as process:
        with pytest.raises(MixmoError):
            process.ask({"config": "no: configuration", "data": "", "pipeline": "", "device": "cpu"})
        until = time.monotonic() + 30
        while state_of(process) != "T" and time.monotonic() < until:
            time.sleep(0.05)
        assert state_of(process) == "T"
    assert not processes_of_ours()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipelines": "resident,tfdata"}, r"--pipelines: found 'tfdata', allowed are resident, ffcv, dali, reference"),
        ({"rows": "64,x"}, r"--rows: found '64,x', allowed: whole numbers separated by commas, multiples of .* \(2\)"),
        ({"rows": "63"}, r"--rows: found '63', .*multiples of batch.repetitions \(2\)"),
        ({"rows": "1000000"}, r"batch.rows: 1000000 rows are more than"),
        ({"repetitions": 0}, r"--repetitions: found 0, allowed: a whole number at least 1"),
        ({"workers": 0}, r"--workers: found 0, allowed: a whole number at least 1"),
        ({"cache": "disk"}, r"--cache: found 'disk', allowed are os and process"),
        ({"synthetic": "mnist"}, r"unknown data set 'mnist'"),
        ({"plot": Path("chart.xyz")}, r"--plot: chart.xyz cannot be written, allowed are the suffixes"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(run, options, message):
    with pytest.raises(MixmoError, match=message):
        run(**options)
    assert not processes_of_ours()


def test_every_pipeline_name_has_its_options():
    assert [build.PipelineOptions(name).name for name in build.PIPELINES] == list(build.PIPELINES)
    with pytest.raises(ConfigError, match="--pipeline: found 'tfdata'"):
        build.PipelineOptions("tfdata")


def test_the_machine_copies_and_holds_memory():
    assert copy_bandwidth(build.choose_device("cpu"), repetitions=1) > 1e8
    assert memory_of_group(os.getpgrp()) > 1e7
