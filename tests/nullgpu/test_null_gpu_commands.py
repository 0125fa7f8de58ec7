"""The real commands on a GPU that does nothing: what they ask of it, what they leave, and how they end."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import originals
import pytest
from lab import CONFIG, read_history
from null_gpu import missing, run

from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages

pytestmark = [pytest.mark.nullgpu, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

EAGER = ("--set", "step.compile=false")
STEPS = 11  # of an epoch, of which three are plain ones before the capture
MB = 1 << 20


def train(folder: Path, data: Path, *options: str, name: str = "tiny", **how) -> dict:
    """The command that trains two epochs of the lab's configuration."""
    config = folder / f"{name}.yaml"
    config.write_text(CONFIG)
    place = ["--data", str(data), "--runs", str(folder / "runs"), "--device", "cuda"]
    return {"command": ["mixmo-fast", "train", str(config), *place, "--set", "schedule.epochs=2", *options], **how}


def assert_done(*commands: dict) -> None:
    for one in commands:
        assert (one["code"], one["complaints"], one["illegal"]) == (0, "", [])
        assert one["launches"]


def write_other_images(data: Path) -> None:
    """A few random images in the place of Fashion-MNIST."""
    info = DATASETS["fashion_mnist"]
    labels = np.arange(20) % info.classes
    images = originals.random_images(20, info.height, info.width)
    (data / info.name).mkdir(parents=True)
    content = OriginalImages(images, labels, images[:7], labels[:7], files=(), verified=False)
    write_folder(info, content, data / info.name)


def assert_interrupted_and_resumed(stopped: dict, resumed: dict, folder: Path) -> None:
    line = "mixmo-fast: interrupted; the same command continues from the last checkpoint\n"
    assert (stopped["code"], stopped["complaints"], stopped["illegal"]) == (130, line, [])
    assert (stopped["steps"], stopped["replays"]) == (STEPS + 6, STEPS + 6 - 3)
    assert_done(resumed)
    assert "holds 1 epochs: continuing" in resumed["written"]
    assert (resumed["steps"], resumed["replays"]) == (STEPS, STEPS - 3)  # captured anew
    history = read_history(folder)
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert 0 < row["gpu_peak_allocated_bytes"] <= row["gpu_peak_reserved_bytes"]
        assert row["test_seconds"] > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["peak_memory"]["gpu_peak_allocated_bytes"] == max(row["gpu_peak_allocated_bytes"] for row in history)
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "first_batch.png"):
        assert (folder / name).is_file(), name


def test_a_run_is_interrupted_goes_on_and_is_evaluated(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "runs" / "tiny"
    write_other_images(data)
    training = train(tmp_path, data, *EAGER)
    look = [str(folder), "--data", str(data), "--device", "cuda"]
    converted, stopped, resumed, evaluated, inspected = run(
        "commands",
        {"command": ["mixmo-fast", "convert", "digits", "--data", str(data)]},
        {**training, "interrupt_after": STEPS + 6},
        training,
        {"command": ["mixmo-fast", "evaluate", *look, "--robustness", "synthetic", "--ood", "fashion_mnist"]},
        {"command": ["mixmo-fast", "inspect", *look]},
    )
    assert (converted["code"], converted["launches"]) == (0, 0)
    assert_interrupted_and_resumed(stopped, resumed, folder)
    assert f"All of it on one page: {folder / 'report.html'}" in resumed["written"]
    assert_done(evaluated, inspected)
    saved = json.loads((folder / "evaluations" / "last" / "evaluation.json").read_text())
    assert len(saved["robustness"]["corruptions"]) == 8 and saved["ood"][0]["dataset"] == "fashion_mnist"
    assert (folder / "evaluations" / "last" / "inspection.json").is_file()


@pytest.mark.slow
def test_a_compiled_run_is_interrupted_and_goes_on(tmp_path, digits):
    # Without the evaluation at the end, which compiles nothing: cuDNN is there for the compiler alone.
    training = train(tmp_path, digits, "--no-report", cudnn=True)
    stopped, resumed = run("commands", {**training, "interrupt_after": STEPS + 6}, training)
    assert_interrupted_and_resumed(stopped, resumed, tmp_path / "runs" / "tiny")
    for one in (stopped, resumed):
        assert "Null H100, fp32, compiled, CUDA graph\n" in one["written"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("torchvision", "mobilenet_v3_small"), ("timm", "vit_tiny_patch16_224")],  # dropout; a slot for the map
)
def test_the_step_of_a_librarys_network_is_captured(tmp_path, digits, kind, name):
    named = [f"network.kind={kind}", f"network.name={name}", "network.members=2"]
    sets = [word for override in ("network=null", *named) for word in ("--set", override)]
    training = train(tmp_path, digits, "--no-report", *EAGER, *sets)
    stopped, resumed = run("commands", {**training, "interrupt_after": STEPS + 6}, training)
    assert_interrupted_and_resumed(stopped, resumed, tmp_path / "runs" / "tiny")


def test_every_other_pipeline_and_augmix_feed_a_captured_step(tmp_path, digits):
    ways = {"reference": ("--pipeline", "reference", "--workers", "1"), "augmix": ("--set", "data.augmentation=augmix")}
    if find_spec("ffcv"):
        ways["ffcv"] = ("--pipeline", "ffcv", "--cache", "process")
    options = (*EAGER, "--set", "schedule.epochs=1", "--no-report")
    trained = run("commands", *(train(tmp_path, digits, *options, *way, name=name) for name, way in ways.items()))
    assert_done(*trained)
    assert [one["replays"] for one in trained] == [STEPS - 3] * len(ways)


def test_a_gpu_that_is_busy_or_too_small_is_one_line(tmp_path, digits):
    training = train(tmp_path, digits, *EAGER, "--set", "schedule.epochs=1")
    busy, enough, small = run(
        "commands",
        {**training, "busy": True},
        {**training, "memory": 175 * MB},  # for training, or for the evaluation at the end, but not for both at a time
        {**training, "memory": 60 * MB, "command": [*training["command"], "--from-scratch"]},
    )
    assert_done(enough)
    assert (busy["code"], small["code"]) == (2, 2)
    assert busy["complaints"] == (
        "mixmo-fast: CUDA error: CUDA-capable device(s) is/are busy or unavailable: nvidia-smi shows who uses the GPU; "
        "one in exclusive mode serves one process at a time\n"
    )
    assert small["complaints"].startswith("mixmo-fast: CUDA out of memory. Tried to allocate ")
    assert small["complaints"].count("\n") == 1 and "lower batch.rows" in small["complaints"]


def test_a_driver_that_is_too_old_is_one_line(tmp_path, digits):
    (old,) = run("commands", {**train(tmp_path, digits), "driver": 12040})
    assert old["code"] == 2
    assert old["complaints"] == (
        "mixmo-fast: --device cuda: torch sees no CUDA device here (The NVIDIA driver on your system is too old (found "
        "version 12040)); use --device cpu or auto\n"
    )


@pytest.mark.campaign
def test_the_benchmarks_measure_a_gpu(tmp_path, digits):
    contestants = ("default", "eager_fp32_nchw", "default_deterministic")
    config, rates, steps = (tmp_path / name for name in ("tiny.yaml", "rates.json", "steps.json"))
    config.write_text(CONFIG)
    short = ["--device", "cuda", "--repetitions", "1", "--seconds", "0.02", "--json"]
    place = ["--data", str(digits), "--pipelines", "resident"]
    network = ["--network", "wrn-10-1", "--members", "2", "--rows", "8", "--no-compile"]
    network += ["--contestants", ",".join(contestants)]
    pipelines, training = run(
        "commands",
        {"command": ["mixmo-fast", "benchmark", str(config), *place, *short, str(rates)]},
        {"command": ["benchmarks.training", *network, *short, str(steps)]},
    )
    assert_done(pipelines, training)
    (panel,) = json.loads(rates.read_text())["row_counts"].values()
    assert panel["contestants"].keys() == {"resident"}
    result = json.loads(steps.read_text())
    assert tuple(result["contestants"]) == contestants and training["replays"] > 30
    parts = [*result["contestants"].values(), *(result[name] for name in ("data", "end_to_end", "ceiling", "stem"))]
    assert [one for one in parts if "error" in one] == []
    assert set(result["matrix_peak_timed"].values()) == {"replays"}
