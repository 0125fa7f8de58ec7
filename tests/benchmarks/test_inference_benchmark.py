"""The benchmark of inference compares like with like, says what it left out, and knows what trained runs are worth."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks import inference as benchmark
from benchmarks.inference_contestants import ENSEMBLE, FOLDED, SINGLE, STACKED, UNFOLDED, fresh_field, run_field
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.config.load import load_config, to_yaml
from mixmo_fast.errors import ConfigError
from mixmo_fast.networks.work import forward_macs
from mixmo_fast.run import build
from mixmo_fast.training.checkpoint import Checkpoint, save_checkpoint

CPU = torch.device("cpu")
QUICK = ("--network", "wrn-10-1", "--batches", "1,2", "--threads", "1", "--repetitions", "2", "--seconds", "0")


@pytest.fixture(scope="module")
def fresh():
    return fresh_field("wrn-10-1", None, 2, 3, CPU)


def by_name(field) -> dict:
    return {one.name: one for one in field.contestants}


@torch.no_grad()
def test_contestants_answer_alike_where_they_are_the_same_networks(fresh):
    found = by_name(fresh)
    assert list(found) == [SINGLE, ENSEMBLE, STACKED, FOLDED, UNFOLDED, "single wrn-10-2"]
    logits = {name: one.network(fresh.images) for name, one in found.items()}
    assert {name: tuple(one.shape) for name, one in logits.items()} == {
        name: (3, one.members, 100) for name, one in found.items()
    }
    torch.testing.assert_close(logits[STACKED], logits[ENSEMBLE], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[FOLDED], logits[UNFOLDED], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[ENSEMBLE][:, :1], logits[SINGLE])
    assert not torch.allclose(logits[ENSEMBLE][:, 0], logits[ENSEMBLE][:, 1]), "two networks, not one twice"


def test_work_is_that_of_the_networks(fresh):
    found = by_name(fresh)
    single = found[SINGLE].macs
    assert found[ENSEMBLE].macs == found[STACKED].macs == 2 * single
    assert found[FOLDED].macs == found[UNFOLDED].macs == single + 64 * 100, "a second head, and nothing else"
    assert single == forward_macs(build.make_network(benchmark_config(), 100), 32, 32)
    assert 1.9 * single < found["single wrn-10-2"].macs < 4.1 * single
    assert fresh.free == (FOLDED,)


def benchmark_config():
    return make_config(TrainingBenchmark(network="wrn-10-1", members=1))


def test_ratios_are_of_neighbouring_turns(fresh, monkeypatch):
    """A machine that gets slower all the time, and contestants of known cost: ratios do not notice."""
    clock = {"now": 1.0}

    def seconds(call, device):
        cost = {SINGLE: 1.0, ENSEMBLE: 2.0}.get(call.name, 1.02)
        clock["now"] *= 1.01
        return cost * clock["now"]

    def call(one, *_):
        def work():
            pass

        work.name = one.name
        return work

    monkeypatch.setattr(benchmark, "seconds_of", seconds)
    monkeypatch.setattr(benchmark, "_call", call)
    options = Namespace(repetitions=20, seconds=0.0, longest=60.0)
    found = benchmark._setting(fresh, "eager", 1, 2, options, CPU)["contestants"]
    assert found[ENSEMBLE]["ratio"] == pytest.approx(2, rel=0.05)
    assert found[FOLDED]["ratio"] == pytest.approx(1.02, rel=0.05)
    assert found[SINGLE]["ratio"] == 1 and found[SINGLE]["turns"] == 20
    assert found[SINGLE]["images_per_second"] == pytest.approx(2e3 / found[SINGLE]["p50_ms"])
    assert found[SINGLE]["p95_ms"] > found[SINGLE]["p50_ms"] > 1e3


def test_the_benchmark_writes_shows_and_draws_its_result(tmp_path, monkeypatch, capsys):
    path, chart = tmp_path / "results" / "inference.json", tmp_path / "inference.png"
    arguments = ["--json", str(path), "--chart", str(chart), *QUICK, "--engines", "eager,onnxruntime"]
    monkeypatch.setattr("sys.argv", ["inference", *arguments])
    benchmark.main()
    found = json.loads(path.read_text())
    assert [(one["engine"], one["batch"]) for one in found["settings"]] == [
        *(("eager", 1), ("eager", 2), ("onnxruntime", 1), ("onnxruntime", 2)),
    ]
    assert found["settings"][0]["left_out"] == {}
    assert set(found["settings"][2]["left_out"]) == {STACKED, UNFOLDED}
    assert {"torch", "onnxruntime"} <= set(found["versions"]) and found["folded_over_single"]["median"] > 0
    shown = capsys.readouterr().out
    assert "folded / single: median" in shown and "ensemble" in shown
    assert chart.stat().st_size > 10_000


def single_run(folder: Path, trained, seed: int) -> Path:
    """A run of one member that was never trained."""
    config = trained_config(trained, seed)
    network = build.make_network(config, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9).state_dict()
    checkpoint = Checkpoint(1, to_yaml(config), network.state_dict(), optimizer, {}, "[]")
    save_checkpoint(checkpoint, folder / "checkpoints" / "last.pt")
    (folder / "config.yaml").write_text(to_yaml(config))
    return folder


def trained_config(trained, seed: int):
    return load_config(trained.config, ("network.members=1", "mixing=null", f"seed={seed}"))


def test_runs_are_timed_on_their_images_with_their_scores(trained, tmp_path):
    singles = [single_run(tmp_path / f"one{seed}", trained, seed) for seed in (1, 2)]
    field = run_field([trained.run, *singles], trained.data, 5, CPU)
    found = by_name(field)
    assert list(found) == [SINGLE, ENSEMBLE, STACKED, "tiny, 2 members"]
    assert field.free == ("tiny, 2 members",) and field.images.shape == (5, 3, 16, 16)
    expected = trained.evaluate().scores
    assert found["tiny, 2 members"].scores.top1 == pytest.approx(expected.top1, abs=1e-9)
    assert len(found[ENSEMBLE].scores.member_top1) == 2
    assert found[STACKED].scores.top1 == pytest.approx(found[ENSEMBLE].scores.top1, abs=0.01)
    with pytest.raises(ConfigError, match="none of one member"):
        run_field([trained.run], trained.data, 5, CPU)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batches", "1,x"), "--batches: found '1,x', allowed: whole numbers"),
        (("--threads", "0"), "--threads: found '0'"),
        (("--engines", "tensorrt"), "--engines: found 'tensorrt', allowed: eager, compile, onnxruntime"),
        (("--network", "vgg"), "--network: found 'vgg'"),
        (("--repetitions", "0"), "--repetitions at least 1"),
        (("--runs", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr("sys.argv", ["inference", "--json", str(tmp_path / "x.json"), *QUICK, *arguments])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and len(error.splitlines()) == 1 and words in error
    assert not (tmp_path / "x.json").exists()
