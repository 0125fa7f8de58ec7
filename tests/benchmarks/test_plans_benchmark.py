"""The benchmark of plans counts the rows that were drawn, and divides turns that were next to each other."""

import json
import threading
import time

import pytest

from benchmarks import plans as benchmark

RUN = "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"


def test_rows_are_those_of_all_threads():
    """A block takes a hundredth of a second, whoever draws it."""
    names, firsts = set(), set()

    def draw(recipe, at):
        names.add(threading.current_thread().name)
        firsts.add(at.first_step)
        time.sleep(0.01)

    recipe = benchmark.recipe_of(RUN)
    rate = benchmark.rows_per_second(draw, recipe, threads=2, seconds=0.2)
    assert len(names) == 3  # with the one that warms up
    assert firsts >= set(range(0, 20 * 32, 32))
    assert 0.5 * 2 * 2048 / 0.01 < rate <= 2 * 2048 / 0.01


def test_runs_of_both_data_sets_are_measured():
    assert {name.split("_")[1] for name in benchmark.RUNS} == {"cifar100", "tinyimagenet"}
    assert len(benchmark.RUNS) == 13
    assert benchmark._FIRST_RUN in benchmark.RUNS


def test_the_benchmark_writes_and_shows_its_result(tmp_path, monkeypatch, capsys):
    rates = {"kernels": iter([6.0, 30.0, 10.0]), "definition": iter([2.0, 3.0, 5.0])}
    drawn = {draw: name for name, draw in benchmark.CONTESTANTS.items()}
    monkeypatch.setattr(benchmark, "RUNS", (RUN,))
    monkeypatch.setattr(benchmark, "THREADS", (2,))
    monkeypatch.setattr(benchmark, "rows_per_second", lambda draw, *_: next(rates[drawn[draw]]))
    monkeypatch.setattr(benchmark, "first_plan_seconds", lambda: {"compiled": 5.0})
    path = tmp_path / "results" / "plans.json"
    monkeypatch.setattr("sys.argv", ["plans", "--json", str(path), "--repetitions", "3"])
    benchmark.main()
    found = json.loads(path.read_text())
    assert found["rows_per_second"][RUN]["2"] == {"kernels": 10.0, "definition": 3.0}
    assert found["ratio"][RUN]["2"] == pytest.approx(3.0)  # of 3, 10 and 2
    assert "numba" in found["versions"]
    assert RUN.removeprefix("exp_") in capsys.readouterr().out


def test_the_first_plan_is_that_of_a_process_of_its_own(tmp_path):
    assert 0 < benchmark._first_plan("definition", str(tmp_path)) < 60
