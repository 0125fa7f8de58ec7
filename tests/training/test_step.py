"""How a step is computed: what is chosen for a machine, and that no choice changes the result beyond rounding."""

import copy
import json
import math
import shutil
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from lab import CONFIG, Lab, assert_same_tensors, drift, fresh_network, read_history

from mixmo_fast import compilers
from mixmo_fast.batch import Batch
from mixmo_fast.config.load import load_config, parse_config
from mixmo_fast.config.schema import StepConfig
from mixmo_fast.doctor import findings
from mixmo_fast.errors import ConfigError, DeviceError, DivergedError
from mixmo_fast.run import build
from mixmo_fast.training import precision, progress
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.graph import copy_batch
from mixmo_fast.training.options import choose_options
from mixmo_fast.training.precision import Precision, choose_precision
from mixmo_fast.training.schedule import base_rate
from mixmo_fast.training.step import TrainingStep, make_optimizer
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.store import open_dataset

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FP32 = Precision("fp32", "cpu")
AUTO = StepConfig()


@pytest.fixture
def processor(monkeypatch):
    """Makes torch tell of another processor."""

    def has(*names: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True), raising=False)

    return has


@pytest.fixture
def gpu(monkeypatch):
    """Makes torch tell of a GPU with bf16, or without."""

    def has(bf16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda _: SimpleNamespace())

    return has


# What is chosen


@pytest.mark.parametrize(("names", "chosen"), [((), "fp32"), (("avx2",), "fp32"), (("avx512_bf16",), "bf16")])
def test_a_processor_computes_in_bf16_where_it_has_it(processor, names, chosen):
    processor(*names)
    assert choose_precision("auto", CPU) == Precision(chosen, "cpu")
    assert choose_precision("fp32", CPU).name == "fp32"
    assert choose_precision("auto", CPU).image_dtype == torch.float32


def test_an_older_torch_that_knows_no_processors_means_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU).name == "fp32"


def test_the_doctor_names_the_instructions_that_training_looks_for():
    assert findings._FAST_BF16 == precision.FAST_BF16


def test_a_gpu_computes_in_bf16_where_it_has_it(gpu):
    gpu(bf16=True)
    assert choose_precision("auto", CUDA).dtype == torch.bfloat16
    assert choose_precision("tf32", CUDA).image_dtype == torch.float32
    gpu(bf16=False)
    assert choose_precision("auto", CUDA).name == "fp32"
    for name in ("bf16", "tf32"):
        with pytest.raises(DeviceError, match=f"step.precision: this GPU has no {name}; use fp16 or fp32"):
            choose_precision(name, CUDA)


@pytest.mark.parametrize("name", ["fp16", "tf32"])
def test_what_a_processor_cannot_do_is_refused(name):
    with pytest.raises(DeviceError, match=f"step.precision: {name} needs a CUDA device; on a CPU use fp32 or bf16"):
        choose_precision(name, CPU)


def test_a_gpu_gets_everything_and_several_ranks_capture_nothing(gpu):
    gpu(bf16=True)
    chosen = choose_options(AUTO, CUDA, macs=0)
    assert (chosen.compile, chosen.cuda_graph, chosen.stem, chosen.precision.name) == (True, True, "separate", "bf16")
    together = choose_options(AUTO, CUDA, macs=math.inf, ranks=2)
    assert (together.compile, together.cuda_graph) == (True, False)
    assert not choose_options(AUTO, CPU, macs=math.inf, ranks=2).compile
    off = StepConfig(compile=False, cuda_graph=False, stem="separate", fused_optimizer=False, precision="fp32")
    plain = choose_options(off, CUDA, macs=math.inf)
    assert (plain.compile, plain.cuda_graph, plain.stem, plain.fused_optimizer) == (False, False, "separate", False)


def test_without_a_fused_optimizer_there_is_no_graph(gpu):
    gpu(bf16=True)
    assert not choose_options(StepConfig(fused_optimizer=False), CUDA, 0).cuda_graph
    with pytest.raises(ConfigError, match=r"step.cuda_graph: found true with step.fused_optimizer false"):
        choose_options(StepConfig(fused_optimizer=False, cuda_graph=True), CUDA, 0)
    with pytest.raises(ConfigError, match=r"step.cuda_graph: found true with 2 ranks"):
        choose_options(StepConfig(cuda_graph=True), CUDA, 0, ranks=2)
    with pytest.raises(DeviceError, match=r"step.cuda_graph: found true, which needs a CUDA device"):
        choose_options(StepConfig(cuda_graph=True), CPU, 0)


def test_a_cpu_compiles_what_is_worth_it(monkeypatch):
    """The quickstart is over before a compiler would be done; the paper's runs are not."""
    for name, dataset, compiled in (("wide_resnet, depth: 10, width: 1", "digits", False), (None, "cifar100", True)):
        text = CONFIG.replace("digits", dataset)
        text = text if name else text.replace("depth: 10, width: 1", "depth: 28, width: 10")
        config, info = parse_config(text, "test"), dataset_info(dataset)
        with torch.device("meta"):
            network = build.make_network(config, info.classes)
        chosen = build.make_step_options(config, network, info, CPU)
        assert chosen.compile is compiled
        assert (chosen.cuda_graph, chosen.stem) == (False, "separate")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not choose_options(AUTO, CPU, macs=math.inf).compile
    with pytest.raises(DeviceError, match=r"step.compile: found true, which needs a compiler, but no C\+\+ compiler"):
        choose_options(StepConfig(compile=True), CPU, macs=0)


def test_a_gpu_without_a_compiler_is_said_in_a_line(gpu, monkeypatch):
    gpu(bf16=True)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    lines = []
    chosen = choose_options(AUTO, CUDA, macs=0, notify=lines.append)
    assert (chosen.compile, chosen.cuda_graph) == (False, True)
    assert lines == ["nothing is compiled, which makes this GPU slower: no C compiler (gcc or clang)"]


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ((), 0.05),
        (("batch.rows=256",), 0.05),
        (("batch.rows=256", "optimizer.lr_scaling=linear"), 0.2),
        (("batch.rows=256", "optimizer.lr_scaling=linear", "optimizer.lr_rows=128"), 0.1),
    ],
)
def test_the_rate_is_scaled_only_when_asked(lab, overrides, rate):
    assert base_rate(load_config(lab.config, overrides)) == pytest.approx(rate)


def test_training_takes_the_scaled_rate(lab):
    lab.train("batch.rows=256", "optimizer.lr_scaling=linear", "schedule={epochs: 1, warmup_steps: 0}")
    assert read_history(lab.run)[0]["learning_rate"] == pytest.approx(0.2)


def test_the_published_rows_of_a_preact_resnet_are_100():
    text = CONFIG.replace("wide_resnet, depth: 10", "preact_resnet, depth: 18").replace("rows: 64", "rows: 200")
    config = parse_config(text.replace("lr: 0.05", "lr: 0.05, lr_scaling: linear"), "test")
    assert base_rate(config) == pytest.approx(0.1)


# What is computed


EPOCH = ("schedule.epochs=1", "batch.rows=256")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, digits) -> Lab:
    """An epoch of five steps with the usual options."""
    place = Lab(tmp_path_factory.mktemp("plain"), digits)
    place.train(*EPOCH)
    return place


@pytest.mark.parametrize(
    ("change", "tolerance", "farthest"),
    [
        # Where a sign was rounded the other way a ReLU makes more of it: 1e-3 was seen, and 2e-2 with bf16.
        ("step.channels_last=false", 1e-4, 1e-2),
        ("step.stem=grouped", 1e-4, 1e-2),
        ("step.stem=dense", 1e-4, 1e-2),
        ("step.fused_optimizer=false", 1e-4, 1e-2),
        ("step.deterministic=true", 1e-4, 1e-2),
        ("step.precision=bf16", 2e-2, 2e-1),
        pytest.param("step.compile=true", 1e-4, 1e-2, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")]),
    ],
)
def test_no_option_changes_the_result_beyond_rounding(lab, plain, change, tolerance, farthest):
    """After an epoch, in which each rounding has grown."""
    try:
        lab.train(*EPOCH, change)
    finally:
        torch.use_deterministic_algorithms(False)
    (expected,), (row,) = read_history(plain.run), read_history(lab.run)
    assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=tolerance)
    assert drift(plain.checkpoint()["network"], lab.checkpoint()["network"], fresh_network()) < farthest


def test_every_batch_is_counted_once(plain):
    state = plain.checkpoint()["network"]
    counts = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
    assert counts == {719 // 256}


def test_a_batch_is_copied_whatever_its_parts_are():
    """Words at an even address, and others: of odd size, at an odd place, or laid out otherwise."""

    def batch(images: torch.Tensor, pattern: torch.Tensor) -> Batch:
        random = torch.Generator().manual_seed(len(pattern))
        parts = [torch.rand(*shape, generator=random) for shape in ((3, 2, 2), (3, 2), (3, 2))]
        box, labels = (torch.randint(0, 99, shape, generator=random) for shape in ((3, 4), (3, 2, 2)))
        return Batch(images, box.int(), pattern, parts[0], labels, parts[1], parts[2])

    for dtype in (torch.float32, torch.bfloat16):
        images = torch.rand(3, 6, 4, 4).to(dtype)
        for laid_out in (images, images.contiguous(memory_format=torch.channels_last)):
            for pattern in (torch.zeros(3, 0, 0, 0), torch.ones(3, 1, 4, 4), torch.ones(7, 1, 3, 1)[1:4, :, 1:]):
                source = batch(laid_out, pattern.byte())
                target = batch(torch.zeros_like(laid_out), torch.zeros_like(source.feature_pattern))
                copy_batch(source, target)
                assert_same_tensors(vars(target), vars(source))
                other = batch(torch.zeros(3, 6, 4, 4, dtype=dtype), torch.zeros_like(source.feature_pattern))
                copy_batch(source, other)
                assert_same_tensors(vars(other), vars(source))


def test_a_run_goes_on_whatever_the_memory_layout_and_the_update_were(digits):
    """The optimiser's state follows its parameters, and the update is the one that is asked for now."""
    config = parse_config(CONFIG, "test")
    dataset = open_dataset(digits, "digits")

    def make(**changes) -> TrainingStep:
        how = choose_options(StepConfig(precision="fp32", compile=False, **changes), CPU, 0)
        network = build.make_network(config, 10)
        return TrainingStep(network, make_optimizer(network, config.optimizer, how.fused_optimizer), how)

    first, plain = make(), {"channels_last": False, "fused_optimizer": False}
    with closing(build.make_training_batches(config, dataset, build.PipelineOptions(), CPU, FP32)) as batches:
        stream = batches.epoch(1)
        for _ in range(3):
            first(next(stream), 0.05)
        batch = next(stream)
        states = [copy.deepcopy(one.state_dict()) for one in (first.network, first.optimizer)]
        networks = [first.network.state_dict()]
        first(batch, 0.05)
        for changes in (plain, {}):
            other = make(**changes)
            other.network.load_state_dict(states[0])
            other.resume(states[1], {})
            other(batch, 0.05)
            networks.append(other.network.state_dict())
            assert other.optimizer.param_groups[0]["fused"] is other.options.fused_optimizer
    # One activation whose sign was rounded the other way is worth a thousandth of so small a network's gradient.
    assert drift(networks[0], networks[1], states[0]) < 1e-2
    assert_same_tensors(networks[0], networks[2])


def test_deterministic_runs_repeat_bit_for_bit_and_say_so(lab):
    networks = []
    try:
        for _ in range(2):
            lab.train("schedule.epochs=1", deterministic=True, from_scratch=True)
            assert torch.are_deterministic_algorithms_enabled()
            networks.append(load_checkpoint(lab.path()).network)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_tensors(*networks)
    assert "fp32, deterministic" in lab.printed.getvalue()
    assert json.loads((lab.run / "environment.json").read_text())["step"]["deterministic"] is True


def test_the_first_step_whose_loss_is_not_finite_is_remembered(digits, monkeypatch):
    """On the device: nothing is read until the totals are asked for."""
    config = parse_config(CONFIG, "test")
    place = open_dataset(digits, "digits")
    how = choose_options(config.step, CPU, 0)
    network = build.make_network(config, 10)
    step = TrainingStep(network, make_optimizer(network, config.optimizer), how)
    batches = build.make_training_batches(config, place, build.PipelineOptions(), CPU, how.precision)
    step.start_epoch()
    for number, batch in enumerate(batches.epoch(1)):
        if number == 3:
            batch.images[5, 0, 0, 0] = math.nan
        step(batch, 0.01)
        if number == 2:
            assert step.totals().rows == 3 * 64
        if number == 5:
            break
    batches.close()
    with pytest.raises(DivergedError, match=r"the loss is not finite since step 3$"):
        step.totals()
    step.start_epoch()
    assert step.totals().rows == 0


def test_a_long_epoch_is_not_waited_for_when_the_loss_is_lost(tmp_path, digits, monkeypatch):

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_CHECKS", 0.0)
    place = Lab(tmp_path, digits)
    with pytest.raises(
        DivergedError, match=r"^in epoch 1 the loss is not finite since step \d+: .* checkpoint is none"
    ):
        place.train("optimizer.lr=1000", "batch.rows=32", "schedule.warmup_steps=0", "schedule.epochs=1000")
