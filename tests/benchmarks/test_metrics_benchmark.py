"""The benchmark of the scores scales what it timed to one number of images, and divides like by like."""

import json

import pytest
import torch

from benchmarks import metrics as benchmark


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(benchmark, "NETWORKS", ("wrn-10-1",))
    monkeypatch.setattr(benchmark, "IMAGES", 300)
    monkeypatch.setattr(benchmark, "_ROWS", 4)


def test_shares_are_ratios_of_seconds_for_as_many_images(small, monkeypatch):
    calls = []

    def a_second_a_call(work, device, count):
        calls.append(count)
        return float(count)

    monkeypatch.setattr(benchmark, "seconds_of", a_second_a_call)
    found = benchmark.measure(torch.device("cpu"), images=8, repetitions=2)
    forwards = [name for name in found["seconds"] if name.startswith("forward")]
    assert forwards
    # A call of the scores takes all 300 images, one of a forward pass 4 of them.
    assert found["seconds"]["scores, trained"] == 1
    for name in forwards:
        assert found["seconds"][name] == 300 / 4
        assert found["share"]["scores, untrained"][name] == pytest.approx(4 / 300)
    assert sorted(set(calls)) == [2, 3]
    assert all(len(turns) == 2 for turns in found["turns"].values())


def test_the_two_sets_of_logits_are_what_they_are_called(small):
    for margin, least, most in ((6.0, 0.7, 0.99), (0.0, 0.0, 0.1)):
        logits, labels = benchmark.random_logits(margin, torch.device("cpu"))
        mean = logits.mean(dim=1)
        assert least <= (mean.argmax(dim=1) == labels).float().mean() <= most
    assert mean.softmax(dim=1).min() > 1e-3


def test_the_benchmark_writes_and_shows_its_result(small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "results" / "metrics.json"
    monkeypatch.setattr("sys.argv", ["metrics", "--json", str(path), "--repetitions", "1", "--images", "8"])
    benchmark.main()
    found = json.loads(path.read_text())
    assert found["images_timed"] == 8
    assert found["versions"]["torch"] == torch.__version__
    shown = capsys.readouterr().out
    assert all(name in shown for name in found["seconds"])
