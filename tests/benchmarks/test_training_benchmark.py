"""`python -m benchmarks.training`: opponents that do the same work, and numbers that are what they are said to be."""

import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import ceiling, training
from benchmarks.machine import seconds_since_start
from benchmarks.opponents import DEFAULT, REFERENCE, SQUARES, WORDS, opponents
from benchmarks.training import measure
from benchmarks.training_chart import plot_training
from benchmarks.training_parts import RandomData, gaps
from benchmarks.training_report import DEFINITIONS, lines, table
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.errors import MixmoError
from mixmo_fast.networks.flop import FLOP_PER_MAC, PASSES_PER_STEP
from mixmo_fast.networks.work import forward_macs
from mixmo_fast.run import build
from mixmo_fast.training.options import StepOptions, choose_options
from mixmo_fast.training.precision import Precision
from mixmo_fast.training.step import TrainingStep, make_optimizer
from pipelines.datasets.catalog import dataset_info

CPU = torch.device("cpu")
TINY = TrainingBenchmark(network="wrn-10-1", rows=8, device="cpu", repetitions=1, seconds=0, compile=False)


@pytest.fixture(scope="module")
def result():
    """A measurement of everything that needs no compiler, and what was saved on the way."""
    saved = []
    final = measure(
        replace(TINY, contestants=f"{DEFAULT},{REFERENCE}"), save=lambda so_far: saved.append(json.dumps(so_far))
    )
    assert json.loads(saved[-1]) == json.loads(json.dumps(final))
    assert len(saved) > 4
    return final


def on_meta(network: str, members: int):
    options = TrainingBenchmark(network=network, members=members)
    config = make_config(options)
    info = dataset_info(config.data.dataset)
    with torch.device("meta"):
        return build.make_network(config, info.classes), info


def test_the_result_has_every_part(result):
    assert list(result["contestants"]) == [DEFAULT, REFERENCE]
    assert (result["network"], result["members"], result["rows"]) == ("wrn-10-1", 2, 8)
    for part in ("data", "end_to_end", "ceiling", "stem"):
        assert "error" not in result[part], result[part]
    assert result["idle"] == {"share": None, "reason": "not a GPU"}
    assert result["data"].keys() >= {"step_ms_new", "step_ms_frozen", "ratio"}
    assert list(result["stem"]) == ["separate", "grouped", "dense"]
    for stem in result["stem"].values():
        assert stem["eager_ms"] > 0 and stem["eager_timed"] == "calls"
        assert stem["compiled_ms"] is None and stem["compiled_timed"] is None
    assert set(result["matrix_peak_timed"].values()) == {"calls"}
    assert result["matrix_peak_timed"].keys() == result["matrix_peak"].keys()
    assert result["peak_memory_bytes"] > 1e8
    assert 0 < result["first_step_after_seconds"] < seconds_since_start()
    assert result["definitions"].keys() >= {*DEFINITIONS, DEFAULT, REFERENCE}
    assert result["versions"]["torch"] == torch.__version__
    assert result["threads"] == torch.get_num_threads()
    assert build.make_network(make_config(TINY), 100).trunk.feature_width == 64


def test_shares_and_ratios_are_what_the_contestants_say(result):
    default, reference = result["contestants"][DEFAULT], result["contestants"][REFERENCE]
    for one in (default, reference):
        assert one["rows_per_second_all"] == [one["rows_per_second"]]
        assert one["step_ms"] == pytest.approx(1e3 * 8 / one["rows_per_second"])
        flop = one["rows_per_second"] * result["macs_per_row"] * FLOP_PER_MAC * PASSES_PER_STEP
        assert one["mfu"] == pytest.approx(flop / result["matrix_peak"][one["precision"]])
        assert one["compile_and_capture_seconds"] <= one["first_steps_seconds"]
    ratio = default["rows_per_second"] / reference["rows_per_second"]
    assert result["ratios"] == {f"{DEFAULT}/{REFERENCE}": pytest.approx(ratio)}
    share = default["rows_per_second"] / result["ceiling"]["rows_per_second"]
    assert result["ceiling"]["share_of_ceiling"] == pytest.approx(share)
    both = result["end_to_end"]
    assert both["ratio"] == pytest.approx(both[DEFAULT]["rows_per_second"] / both[REFERENCE]["rows_per_second"])


def test_the_ceiling_has_every_convolution(result):
    # Two encoders, three blocks of two, and a shortcut in the two that halve the map: the first changes no width.
    assert result["ceiling"]["convolutions"] == sum(layer["count"] for layer in result["ceiling"]["layers"]) == 10
    seconds = sum(layer["count"] * layer["ms"] for layer in result["ceiling"]["layers"]) / 1e3
    assert result["ceiling"]["rows_per_second"] == pytest.approx(8 / seconds)
    for layer in result["ceiling"]["layers"]:
        assert layer["ms"] == min(layer["ms_nchw"], layer["ms_channels_last"])
        assert layer["input_gradient"] == (layer["input"][1] != 3)


@pytest.mark.parametrize(("network", "members"), [("wrn-16-2", 1), ("wrn-16-2", 3), ("res18-1", 2)])
def test_the_convolutions_are_the_network_but_for_its_heads(network, members):
    built, info = on_meta(network, members)
    found = ceiling.convolutions(built, 4, info.height, info.width)
    heads = members * info.classes * built.heads[0].in_features
    forward = sum(count * one.macs // (3 if one.input_gradient else 2) for one, count in found.items())
    assert forward == 4 * (forward_macs(built, info.height, info.width) - heads)
    assert sum(count for one, count in found.items() if not one.input_gradient) == members


@pytest.mark.parametrize(
    ("network", "members", "giga"),
    [
        ("wrn-28-10", 1, 5.95),
        ("wrn-28-10", 2, 5.95),
        ("res18-1", 1, 0.556),
        ("res18-2", 1, 2.149),
        ("res18-3", 1, 4.771),
    ],
)
def test_multiply_accumulates_are_the_published_ones(network, members, giga):
    built, info = on_meta(network, members)
    assert forward_macs(built, info.height, info.width) / 1e9 == pytest.approx(giga, rel=1e-3)
    assert built.training


@pytest.mark.parametrize("members", [1, 2])
def test_the_authors_loop_and_our_step_train_the_same_weights(members):
    config = make_config(replace(TINY, members=members))
    assert config.optimizer.weight_decay == 2 * SQUARES
    plain = StepOptions(Precision("fp32", "cpu"))
    contestants, _ = opponents(config, 100, CPU, plain, compiles=False)
    reference = next(one for one in contestants if one.name == REFERENCE)
    theirs_network = build.make_network(config, 100)
    ours_network = build.make_network(config, 100)
    ours = TrainingStep(ours_network, make_optimizer(ours_network, config.optimizer), plain)
    ours.start_epoch()
    step = training_step_of(reference, theirs_network)
    pipeline = RandomData(config, CPU).resident(torch.float32)
    try:
        for batch, _ in zip(pipeline.epoch(1), range(3), strict=False):
            ours(batch, 0.05)
            step(reference.arranged(batch), 0.05)
    finally:
        pipeline.close()
    first = build.make_network(config, 100).state_dict()
    for name, weight in theirs_network.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # our step counts, and no loop has to
            torch.testing.assert_close(ours_network.state_dict()[name], weight, rtol=1e-4, atol=5e-5)
    assert not torch.allclose(first["encoders.0.weight"], theirs_network.state_dict()["encoders.0.weight"], atol=1e-3)


def training_step_of(opponent, network):
    """The opponent's step, of a network that the test can look into."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "make_network", lambda config, classes: network)
        return opponent.make()


def test_contestants_that_would_do_the_same_are_left_out():
    config = make_config(TINY)
    default = StepOptions(Precision("bf16", "cpu"), compile=True)
    found, same_as = opponents(config, 100, CPU, default, compiles=True)
    names = [one.name for one in found]
    assert names[:2] == [DEFAULT, REFERENCE] and "compile_defaults" in names
    assert same_as["default_without_graph"] == DEFAULT
    assert not set(names) & set(same_as)
    options = [one.options for one in found if one.options is not None]
    assert len(options) == len(set(options))
    assert {*names, *same_as} <= WORDS.keys()
    assert [one.name for one in found if one.options is None and one.channels_last] == ["compile_channels_last"]


def test_the_compiled_twin_keeps_channels_innermost_and_its_twin_does_not(monkeypatch):
    """What the compiler is given, and what the network is called with."""
    config, asked, images = make_config(TINY), [], []

    def compile_(network, options=None):
        asked.append(options)

        def forward(inputs, masks):
            images.append(inputs)
            return network(inputs, masks)

        return forward

    monkeypatch.setattr(torch, "compile", compile_)
    found, _ = opponents(config, 100, CPU, StepOptions(Precision("fp32", "cpu")), compiles=True)
    batch = RandomData(config, CPU).frozen(torch.float32)
    weights = []
    for one in (one for one in found if one.name.startswith("compile_")):
        network = build.make_network(config, 100)
        training_step_of(one, network)(one.arranged(batch), 0.1)
        weights.append(network.trunk.state_dict())
        layout = torch.channels_last if one.channels_last else torch.contiguous_format
        assert images[-1].is_contiguous(memory_format=layout)
        wide = [weight for weight in weights[-1].values() if weight.ndim == 4 and min(weight.shape[1:3]) > 1]
        assert wide and all(weight.is_contiguous(memory_format=layout) for weight in wide)
    assert asked == [None, {"force_layout_optimization": True}]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)


def test_a_contestant_that_fails_leaves_its_reason_and_the_others_go_on(monkeypatch):
    def refuse(*_):
        raise RuntimeError("out\nof memory")

    monkeypatch.setattr("benchmarks.opponents.reference_step", refuse)
    small = replace(TINY, ceiling=False, stem=False, contestants=f"{DEFAULT},{REFERENCE}")
    found = measure(small)
    assert found["contestants"][REFERENCE] == {"error": "RuntimeError: out of memory"}
    assert found["contestants"][DEFAULT]["rows_per_second"] > 0
    assert found["ratios"] == {}
    assert found["end_to_end"] == {"error": f"MixmoError: needs the contestant {REFERENCE}"}
    assert found["stem"] is None and found["ceiling"] is None
    table(found), lines(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own imports
def test_the_table_and_the_chart_show_every_contestant(result, tmp_path):
    assert table(result).row_count == 2
    assert len(lines(result)) >= 4
    plot_training(result, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_says_what_was_timed_with_its_launches(result):
    stem, ceiling = (
        next(line for line in lines(result) if start in line) for start in ("encoders", "convolutions alone")
    )
    assert [stem.count(f"{name} ") for name in ("separate", "grouped", "dense")] == [1, 1, 1]
    assert "launches" not in stem + ceiling and "compiled" not in stem
    launched = copy.deepcopy(result)
    launched["stem"]["dense"] |= {"compiled_ms": 0.5, "compiled_timed": "launches"}
    launched["ceiling"]["layers"][0]["timed"] = "launches"
    told = " ".join(lines(launched))
    assert "0.500 ms compiled with launches" in told and "(1 of the kinds with launches)" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--network vgg-16", "--network: found 'vgg-16', allowed: wrn-D-K (wrn-28-10) and res18-W (res18-2)"),
        ("--network wrn-11-2", "network.depth: found 11"),
        ("--rows 63", "batch.rows: found 63, allowed with batch.repetitions 4: a multiple of 4"),
        ("--rows many", "argument --rows: invalid int value: 'many'"),
        ("--members 0", "network.members: found 0"),
        ("--precision fp8", "step.precision: found 'fp8'"),
        ("--precision fp16", "step.precision: fp16 needs a CUDA device"),
        ("--repetitions 0", "--repetitions: found 0, allowed: a whole number at least 1"),
        ("--seconds nan", "--seconds: found nan, allowed: a number at least 0"),
        (
            "--contestants default,other",
            "--contestants: found 'other', allowed on this device: default, eager_fp32_nchw",
        ),
        ("--plot chart.xyz", "--plot: chart.xyz cannot be written"),
    ],
)
def test_bad_arguments_give_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    target = tmp_path / "result.json"
    with pytest.raises(SystemExit) as left:
        training.main([*arguments.split(), "--device", "cpu", "--json", str(target)])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not target.exists()


def test_the_time_since_the_start_is_that_of_the_process():
    code = (
        "import time; from benchmarks.machine import seconds_since_start; time.sleep(0.5); print(seconds_since_start())"
    )
    started = time.monotonic()
    found = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 0.4 < found < time.monotonic() - started + 0.1


def test_compilers_keep_their_work_where_they_are_told(tmp_path, monkeypatch):
    """In a folder of the run alone, which is gone afterwards; or in the one that is named."""
    seen = []

    def look(*_):
        seen.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        assert Path(os.environ["TRITON_CACHE_DIR"]).parent == seen[-1].parent
        raise MixmoError("seen")

    monkeypatch.setattr(training, "measure", look)
    for more in ([], ["--cache", str(tmp_path / "kept")]):
        with pytest.raises(SystemExit):
            training.main(["--device", "cpu", "--json", str(tmp_path / "x.json"), *more])
    assert seen[0].parent.name.startswith("mixmo-fast-") and not seen[0].parent.exists()
    assert seen[1] == tmp_path / "kept" / "inductor"


def test_gaps_are_what_no_interval_covers():
    assert gaps([(0, 1), (0.5, 2), (3, 4), (3.2, 3.5)]) == pytest.approx(0.25)
    assert gaps([(2, 5)]) == 0


def test_parts_name_what_they_need():
    with pytest.raises(MixmoError, match="needs the contestant default"):
        training._needed({}, DEFAULT)


@pytest.mark.campaign
@pytest.mark.filterwarnings("ignore")
def test_the_command_compiles_measures_and_writes(tmp_path, capsys):
    target, chart = tmp_path / "out" / "result.json", tmp_path / "out" / "result.png"
    sizes = ["--network", "wrn-10-1", "--rows", "8", "--device", "cpu", "--no-end-to-end"]
    sizes += ["--contestants", f"{DEFAULT},compile_channels_last", "--cache", str(tmp_path / "cache"), "--no-stem"]
    sizes += ["--repetitions", "1", "--seconds", "0"]
    training.main([*sizes, "--json", str(target), "--plot", str(chart)])
    found = json.loads(target.read_text())
    assert not [one for one in found["contestants"].values() if "error" in one]
    assert found["contestants"][DEFAULT]["options"]["compile"]
    assert found["contestants"]["compile_channels_last"]["compile_and_capture_seconds"] > 0
    assert found["contestants"]["compile_channels_last"]["rows_per_second"] > 0
    assert found["end_to_end"] is None and found["stem"] is None
    assert any((tmp_path / "cache" / "inductor").iterdir())
    assert chart.exists()
    assert "rows/s" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_contestant_runs_and_the_idle_share_is_known():
    found = measure(TrainingBenchmark(network="wrn-10-1", rows=64, device="cuda", repetitions=1, seconds=0.05))
    assert not [one for one in found["contestants"].values() if "error" in one]
    assert {"default_without_graph", "eager_tf32_nchw"} <= found["contestants"].keys()
    assert 0 <= found["idle"]["share"] < 1
    assert all(one["peak_memory_bytes"] > 0 for one in found["contestants"].values())
    assert choose_options(make_config(TINY).step, torch.device("cuda"), 1e18).cuda_graph
