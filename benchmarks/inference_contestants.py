"""The contestants of the inference benchmark: networks that answer for images, fresh ones or those of trained runs.

Shapes: N images, C channels, H W pixels, M members (of a MixMo, or networks of an ensemble), K classes.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError
from mixmo_fast.evaluation.evaluate import predict
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.networks.flop import FLOP_PER_MAC
from mixmo_fast.networks.fold import FoldedMixMo, folded
from mixmo_fast.networks.kinds import network_of_short_name
from mixmo_fast.run import build
from mixmo_fast.run.trained import Weights, read_weights
from mixmo_fast.runfolder.scores import Scores
from mixmo_fast.training.precision import choose_precision
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.store import Dataset, open_dataset

SINGLE, FOLDED, UNFOLDED = "single", "mixmo, folded", "mixmo, unfolded"
ENSEMBLE, STACKED = "ensemble of 2, in turn", "ensemble of 2, stacked"

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Contestant:
    """A network that answers.

    Attributes:
        name: In tables.
        network: Normalised images N x C x H x W to logits N x M x K, in evaluation mode.
        members: M.
        macs: Multiply-accumulates of one image.
        exports: Whether onnxruntime gets it; what an export would turn into another contestant does not.
        scores: On the test split, of a trained run; None: its weights are fresh.
    """

    name: str
    network: nn.Module = field(repr=False)
    members: int
    macs: int
    exports: bool = True
    scores: Scores | None = None


@dataclass(frozen=True, eq=False)
class Field:
    """All contestants, the one that the others are compared with first, and the images that they get.

    Attributes:
        contestants: In this order in tables.
        images: float32 (N, C, H, W), channels_last, normalised; N of the largest batch.
        source: What the images and the weights are.
    """

    contestants: tuple[Contestant, ...]
    images: Tensor = field(repr=False)
    source: str

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the folded MixMos that are as large as the baseline: their members should cost nothing."""
        most = 1.02 * self.contestants[0].macs
        return tuple(
            one.name
            for one in self.contestants
            if one.members > 1 and isinstance(one.network, FoldedMixMo) and one.macs <= most
        )


class InTurn(nn.Module):
    """An ensemble as it is usually run: one network after the other."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Logits N x M x K of images N x C x H x W."""
        return torch.cat([network(images) for network in self.networks], dim=1)


class Stacked(nn.Module):
    """The same networks at once: their weights stacked, each layer one call of a grouped kernel (`torch.func.vmap`)."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.skeleton = [deepcopy(networks[0]).to("meta")]  # a list, so that it is no part of this one's state
        self.stacked = stack_module_state(list(networks))

    def forward(self, images: Tensor) -> Tensor:
        """Logits N x M x K of images N x C x H x W."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self.skeleton[0], (parameters, buffers), (images,))

        return torch.func.vmap(one)(*self.stacked).squeeze(2).transpose(0, 1)


def fresh_field(network: str, wider: str | None, members: int, images: int, device: torch.device) -> Field:
    """Networks with fresh weights on random images; how long they take does not depend on either.

    Args:
        network: `wrn-D-K` or `res18-W`.
        wider: Another, of one member; None: the narrowest of its kind that computes twice as much.
        members: M of the MixMo.
        images: N.
        device: Where they go.

    Raises:
        ConfigError: For another network, or numbers that the configuration refuses.
    """
    config = make_config(TrainingBenchmark(network=network, members=1))
    info = dataset_info(config.data.dataset)
    size = (info.height, info.width)

    def make(name: str, count: int, seed: int = 0) -> nn.Module:
        wanted = make_config(TrainingBenchmark(network=name, members=count)).model_copy(update={"seed": seed})
        return build.make_network(wanted, info.classes).eval()

    wider = wider or _wider(network, config)
    singles = [folded(make(network, 1, seed)) for seed in (0, 1)]
    mixmo = make(network, members)
    found = [
        *_single_and_ensemble(singles, size),
        _contestant(FOLDED, folded(mixmo), members, size),
        _contestant(UNFOLDED, mixmo, members, size, exports=False),
        _contestant(f"single {wider}", folded(make(wider, 1)), 1, size),
    ]
    random = torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(0))
    source = f"random images in the shape of {info.title}, fresh weights of {network}, M = {members}"
    return _placed(found, random, source, device)


def run_field(runs: Sequence[Path], data: Path, images: int, device: torch.device) -> Field:
    """Trained runs with their scores on the test split, whose images are the ones that are timed.

    The first run of one member is what the others are compared with; the next one of the same network makes an ensemble
    with it.

    Args:
        runs: Run folders; their last epochs count.
        data: The data folder.
        images: N.
        device: Where they go.

    Raises:
        MixmoError: A run is missing, the data sets differ, or no run has one member.
    """
    weights = [read_weights(run, "last", run, lambda _: None) for run in runs]
    names = {one.config.data.dataset for one in weights}
    if len(names) > 1:
        raise ConfigError(f"--runs: found runs on {' and '.join(sorted(names))}, allowed: on one data set")
    singles = [one for one in weights if one.config.network.members == 1]
    if not singles:
        raise ConfigError("--runs: found none of one member, allowed: at least one, which the others are compared with")
    dataset = open_dataset(data, names.pop())
    size = (dataset.height, dataset.width)
    pair = [one for one in singles if one.config.network == singles[0].config.network][:2]
    found = _single_and_ensemble([folded(one.network()) for one in pair], size)
    for run, one in zip(runs, weights, strict=True):
        if one not in pair:
            network = folded(one.network())
            found.append(_contestant(_run_name(run, one), network, network.members, size))
    found = [_scored(one, dataset) for one in found]
    normalised = torch.cat([pixels for pixels, _ in _test_batches(dataset)])
    chosen = normalised[torch.tensor(list(islice(cycle(range(len(normalised))), images)))]
    return _placed(found, chosen, f"{dataset.title}, test images; runs {', '.join(map(str, runs))}", device)


def macs_of(network: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image of C = 3 channels."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() // FLOP_PER_MAC


def _single_and_ensemble(singles: Sequence[nn.Module], size: tuple[int, int]) -> list[Contestant]:
    found = [_contestant(SINGLE, singles[0], 1, size)]
    if len(singles) == 2:
        found.append(_contestant(ENSEMBLE, InTurn(singles), 2, size))
        found.append(Contestant(STACKED, Stacked(singles), 2, found[-1].macs, exports=False))
    return found


def _contestant(name: str, network: nn.Module, members: int, size: tuple[int, int], exports: bool = True) -> Contestant:
    return Contestant(name, network, members, macs_of(network, *size), exports)


def _wider(network: str, config: Config) -> str:
    """The narrowest network of the kind and depth that computes about twice as much: work grows with width squared."""
    kind = network_of_short_name(network)
    assert kind is not None  # the configuration was made of it
    head, _, _ = network.rpartition("-")
    return f"{head}-{math.ceil(math.sqrt(2) * config.network.width)}"


def _run_name(run: Path, weights: Weights) -> str:
    members = weights.config.network.members
    return f"{run.name}, {members} members" if members > 1 else f"{run.name}, single"


def _test_batches(dataset: Dataset):
    return build.make_test_batches(dataset, 500, CPU, choose_precision("fp32", CPU))


def _scored(one: Contestant, dataset: Dataset) -> Contestant:
    logits, labels = predict(one.network, _test_batches(dataset), choose_precision("fp32", CPU).autocast)
    return Contestant(one.name, one.network, one.members, one.macs, one.exports, evaluate_logits(logits, labels))


def _placed(found: Sequence[Contestant], images: Tensor, source: str, device: torch.device) -> Field:
    for one in found:
        one.network.to(device, memory_format=torch.channels_last)
        if isinstance(one.network, Stacked):
            one.network.stacked = tuple(
                {name: tensor.to(device) for name, tensor in part.items()} for part in one.network.stacked
            )
    return Field(tuple(found), images.to(device, memory_format=torch.channels_last), source)
