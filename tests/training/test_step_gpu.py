"""What the step owes a CUDA device: nothing but rounding changes with a graph, nothing waits, bits repeat on demand."""

import math

import pytest
import torch
from lab import CONFIG, drift

from mixmo_fast.batch import Batch
from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import StepConfig
from mixmo_fast.errors import DivergedError
from mixmo_fast.run import build
from mixmo_fast.training.options import choose_options, set_switches
from mixmo_fast.training.step import TrainingStep, make_optimizer
from pipelines.datasets.store import open_dataset

DEVICE = torch.device("cuda")
STEPS = 12  # three warm up, one is captured, the others are replayed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def train(digits):
    """Trains on the first batches of an epoch: the step, and the network's state."""
    config = parse_config(CONFIG, "test")
    dataset = open_dataset(digits, "digits")

    def run(settings: StepConfig, steps: int = STEPS, change=lambda number, batch: batch):
        how = choose_options(settings, DEVICE, macs=0)
        set_switches(how, DEVICE)
        network = build.make_network(config, 10).to(DEVICE)
        optimizer = make_optimizer(network, config.optimizer, how.fused_optimizer)
        step = TrainingStep(network, optimizer, how, notify=pytest.fail)
        batches = build.make_training_batches(config, dataset, build.PipelineOptions(), DEVICE, how.precision)
        step.start_epoch()
        for number, batch in zip(range(steps), batches.epoch(1), strict=False):
            step(change(number, batch), rate=0.01 * (number + 1))
        torch.cuda.set_sync_debug_mode("default")
        batches.close()
        return step, {name: tensor.cpu() for name, tensor in network.state_dict().items()}

    yield run
    torch.cuda.set_sync_debug_mode("default")
    set_switches(choose_options(StepConfig(), DEVICE, macs=0), DEVICE)
    torch._dynamo.reset()


@pytest.fixture
def start():
    return build.make_network(parse_config(CONFIG, "test"), 10).state_dict()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_graph_trains_the_same_network(train, start, precision, compiled):
    same = {"precision": precision, "compile": compiled, "deterministic": True}  # the same algorithms on both sides
    plain, expected = train(StepConfig(**same, cuda_graph=False))
    graphed, found = train(StepConfig(**same, cuda_graph=True))
    assert drift(expected, found, start) < (1e-2 if precision == "fp32" else 0.2)
    assert graphed.totals().loss == pytest.approx(plain.totals().loss, rel=1e-3 if precision == "fp32" else 2e-2)
    assert graphed.totals().rows == plain.totals().rows == STEPS * 64


@pytest.mark.parametrize(
    "settings", [{"stem": "grouped"}, {"stem": "dense"}, {"channels_last": False}, {"fused_optimizer": False}]
)
def test_no_option_changes_the_result_beyond_rounding(train, start, settings):
    base = {"precision": "fp32", "compile": False, "cuda_graph": False}
    (_, expected), (_, found) = train(StepConfig(**base)), train(StepConfig(**base, **settings))
    assert drift(expected, found, start) < 1e-2


def test_a_replayed_step_does_not_wait_for_the_device(train):
    def strict(number: int, batch: Batch) -> Batch:
        if number == 6:
            torch.cuda.set_sync_debug_mode("error")
        return batch

    train(StepConfig(compile=False), change=strict)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_deterministic_runs_repeat_bit_for_bit(train, compiled):
    settings = StepConfig(deterministic=True, compile=compiled)
    (_, first), (_, second) = train(settings), train(settings)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_a_replayed_step_remembers_the_first_loss_that_is_not_finite(train):
    def spoil(number: int, batch: Batch) -> Batch:
        if number == 8:
            batch.images.fill_(math.nan)
        return batch

    step, _ = train(StepConfig(compile=False), change=spoil)
    with pytest.raises(DivergedError, match=r"since step 8$"):
        step.totals()
