"""What the pipelines owe a CUDA device: the CPU's batches, and never making it wait."""

import statistics
import time
from contextlib import closing
from dataclasses import fields

import pytest
import torch
from test_contract import PIPELINES, config_of, data  # noqa: F401 (a fixture)

from mixmo_fast.batch import Batch
from mixmo_fast.config.load import load_config
from mixmo_fast.run import build
from mixmo_fast.training.options import choose_options, set_switches
from mixmo_fast.training.precision import Precision, choose_precision
from mixmo_fast.training.step import TrainingStep, make_optimizer
from pipelines.datasets.store import open_dataset
from pipelines.datasets.synthetic import write_synthetic

CONFIG = "configs/cifar100/exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4.yaml"
CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("msda", [None, "mixup", "cutmix", "cow", "channel"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_gpu_gets_the_batches_of_a_cpu(data, pipeline, msda):  # noqa: F811
    pytest.importorskip({"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline, "torch"))
    config, dataset = config_of("cifar100", 2, "patch", msda, 4), open_dataset(data, "cifar100")
    cpu = build.make_training_batches(config, dataset, build.PipelineOptions(), CPU, Precision("fp32", "cpu"))
    gpu = build.make_training_batches(
        config, dataset, build.PipelineOptions(pipeline, 2), torch.device("cuda"), Precision("fp32", "cuda")
    )
    with closing(cpu), closing(gpu):
        for epoch in (1, 2):
            for expected, found in zip(cpu.epoch(epoch), gpu.epoch(epoch), strict=True):
                for field in fields(Batch):
                    wanted, got = getattr(expected, field.name), getattr(found, field.name).cpu()
                    if field.name == "images":
                        # A compiler may contract mask * image + (1 - mask) * partner into one rounding less.
                        torch.testing.assert_close(got, wanted, rtol=2.4e-7, atol=1.2e-7)
                    else:
                        assert torch.equal(got, wanted), field.name


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published CIFAR-100 recipe on random images of its shape, and a way to make its batches."""
    folder = tmp_path_factory.mktemp("synthetic")
    dataset = write_synthetic("cifar100", folder)
    device = torch.device("cuda")

    def make(rows: int):
        config = load_config(CONFIG, [f"batch.rows={rows}"])
        precision = choose_precision("auto", device)
        return (
            config,
            precision,
            build.make_training_batches(config, dataset, build.PipelineOptions(), device, precision),
        )

    return make


def is_hopper() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)


@pytest.mark.slow
@pytest.mark.skipif(not is_hopper(), reason="the rate is that of an H100 or H200")
def test_the_resident_pipeline_makes_three_million_rows_a_second(published):
    _, _, batches = published(4096)
    rates = []
    with closing(batches):
        for epoch in range(1, 6):
            torch.cuda.synchronize()
            started, rows = time.perf_counter(), 0
            for batch in batches.epoch(epoch):
                rows += len(batch.images)
            torch.cuda.synchronize()
            rates.append(rows / (time.perf_counter() - started))
    assert statistics.median(rates) > 3e6, rates


@pytest.mark.slow
@pytest.mark.skipif(not is_hopper(), reason="the ratio is that of a fast GPU, which waits soonest")
def test_a_training_step_never_waits_for_the_resident_pipeline(published):
    config, _, batches = published(64)
    network = build.make_network(config, 100).cuda()
    how = choose_options(config.step, torch.device("cuda"), macs=1e18)
    set_switches(how, torch.device("cuda"))
    step = TrainingStep(network, make_optimizer(network, config.optimizer), how, notify=pytest.fail)
    step.start_epoch()
    ratios = []
    with closing(batches):
        stream = batches.epoch(1)

        def seconds(source) -> float:
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(50):
                step(next(source), rate=0.0)
            torch.cuda.synchronize()
            return time.perf_counter() - started

        seconds(stream)
        for _ in range(7):
            fresh, batch = seconds(stream), next(stream)
            ratios.append(fresh / seconds(iter(lambda batch=batch: batch, None)))
    assert statistics.median(ratios) <= 1.02, ratios
