"""`mixmo-fast export`: a trained network as a file that other programs take, checked against torch before it is kept.

ONNX and torch.export get the network as it answers: encoders folded, normalisation inside, probabilities after it.
Safetensors keeps the `MixMo` as it was trained, unfolded, so that training can go on from it.

Shapes: N rows, M members, C image channels, H W pixels, K classes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mixmo_fast import __version__
from mixmo_fast.config.load import to_yaml
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.files import write_bytes
from mixmo_fast.networks.fold import FoldedMixMo, folded
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run import network_formats
from mixmo_fast.run.appearance import Appearance, appearance_of
from mixmo_fast.run.calibration import Calibration, calibration_of
from mixmo_fast.run.trained import Weights, read_weights
from mixmo_fast.runfolder.exported import LOGITS, NORMALISED, PIXELS, PROBABILITIES, ExportedNetwork

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ""}
"""The formats; what the names of their files end with."""

LARGEST_DIFFERENCE = 1e-3  # relative to the largest logit
_CHECKED_IMAGES = 3  # other than the number that was traced


class Answering(nn.Module):
    """A folded network between pixels and probabilities.

    Args:
        network: Normalised images to logits.
        mean: Of each channel, of pixels scaled to 0..1.
        std: Of each channel, likewise.
        ensemble: What of the members is averaged: `logits` or `probabilities`.
        temperature: Divides the ensemble's logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: FoldedMixMo,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        ensemble: str = "logits",
        temperature: float = 1.0,
    ):
        super().__init__()
        self.network = network
        self.ensemble = ensemble
        self.temperature = temperature
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits N x M x K and probabilities N x K of images N x C x H x W in 0..1."""
        logits = self.network((images - self.mean) / self.std)
        # The softmax of log mean probability is the mean probability; with a temperature it has to be the logarithm.
        pooled = logits.mean(1) if self.ensemble == "logits" else logits.softmax(2).mean(1).log()
        return logits, (pooled / self.temperature).softmax(1)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file, or the folder of safetensors.
        format: One of `SUFFIXES`.
        facts: What it says of itself.
        bytes: On the disk.
        difference: Largest absolute difference of a logit or probability to torch's unfolded network.
        relative: The same over the largest logit.
        missing: What is not known of its calibration, in one line; None: nothing.
    """

    path: Path
    format: str
    facts: ExportedNetwork = field(repr=False)
    bytes: int
    difference: float
    relative: float
    missing: str | None


def export_network(
    target: Path,
    format: str,
    out: Path | None = None,
    checkpoint: str = "last",
    *,
    data: Path = Path("data"),
    runs: Path = Path("runs"),
    force: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Writes a trained network in another form, whole or not at all.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        format: `onnx`, `torch-export` or `safetensors`.
        out: The file, or for safetensors the folder; None: the run's name with the format's suffix, here.
        checkpoint: `last`, `best`, an epoch, or a checkpoint's path.
        data: The data folder; the data set itself is not needed.
        runs: Where the run folder of a configuration file is.
        force: Whether an earlier export may be replaced.
        notify: Takes one-line messages.

    Raises:
        ConfigError: An unknown format, a missing package, or `out` is there.
        MixmoError: Configuration or checkpoint are missing, the file cannot be written, or it says other things than
            torch.
    """
    if format not in SUFFIXES:
        raise ConfigError(f"--format: found {format!r}, allowed: {', '.join(SUFFIXES)}")
    network_formats.require(format)
    weights = read_weights(target, checkpoint, runs, notify)
    out = out or Path((weights.run or target).resolve().stem + SUFFIXES[format])
    network_formats.check_free(out, format, force)
    appearance = appearance_of(weights.config.data.dataset, data, weights.data, notify)
    calibration, network = calibration_of(weights), weights.network()
    facts = _facts(weights, network, appearance, calibration, is_folded=format != "safetensors")
    if format == "safetensors":
        network_formats.write_safetensors(network, facts, out)
        size = sum(path.stat().st_size for path in out.iterdir())
        return Exported(out, format, facts, size, 0.0, 0.0, calibration.missing)
    answering = Answering(
        folded(network), appearance.mean, appearance.std, calibration.ensemble, calibration.temperature or 1.0
    ).eval()
    images = torch.rand(2, 3, appearance.height, appearance.width, generator=torch.Generator().manual_seed(0))
    write = network_formats.onnx_bytes if format == "onnx" else network_formats.torch_export_bytes
    content, run = write(answering, images, facts)
    difference, relative = _difference(run, answering, network, appearance)
    if not relative <= LARGEST_DIFFERENCE:  # NaN is no number that would do
        raise MixmoError(
            f"{out}: not written: its outputs differ from torch's by {difference:.2g} ({relative:.2g} of the largest "
            f"logit), allowed: {LARGEST_DIFFERENCE:g}"
        )
    write_bytes(out, content)
    return Exported(out, format, facts, len(content), difference, relative, calibration.missing)


def _facts(
    weights: Weights, network: MixMo, appearance: Appearance, calibration: Calibration, is_folded: bool
) -> ExportedNetwork:
    return ExportedNetwork(
        model_type="mixmo",
        version=__version__,
        checkpoint=str(weights.checkpoint),
        epoch=weights.epoch,
        configuration=to_yaml(weights.config),
        **asdict(appearance),
        members=network.members,
        classes=network.classes,
        ensemble=calibration.ensemble,
        temperature=calibration.temperature or 1.0,
        folded=is_folded,
        input=PIXELS if is_folded else NORMALISED,
        outputs=(LOGITS, PROBABILITIES) if is_folded else (LOGITS,),
    )


@torch.no_grad()
def _difference(
    run: Callable[[Tensor], tuple[Tensor, Tensor]], answering: Answering, network: MixMo, appearance: Appearance
) -> tuple[float, float]:
    """How far a file's outputs are from those of torch and the network as it was trained: absolute, and relative."""
    shape = (_CHECKED_IMAGES, 3, appearance.height, appearance.width)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    logits, probabilities = run(images)
    expected = network((images - answering.mean) / answering.std)
    _, expected_probabilities = answering(images)
    gap = max((logits - expected).abs().max().item(), (probabilities - expected_probabilities).abs().max().item())
    return gap, gap / max(expected.abs().max().item(), 1e-12)
