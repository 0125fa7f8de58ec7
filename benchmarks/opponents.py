"""The contestants of the training benchmark: the default step, its variants, and the loops that people write.

All train the same network (`mixmo_fast.networks`, the same first weights) on the same batch with the same loss, so only
how the step is computed differs. A contestant is made when it is wanted, as a function of a batch and a learning rate.

Shapes: N rows, M members, K classes, P = 2: the image and its MSDA partner.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixmo_fast.batch import Batch
from mixmo_fast.config.schema import Config
from mixmo_fast.run import build
from mixmo_fast.training.options import StepOptions, set_switches
from mixmo_fast.training.precision import Precision, choose_precision
from mixmo_fast.training.step import TrainingStep, make_optimizer

Step = Callable[[Batch, float], object]
"""Takes one training step: a batch, and the learning rate."""

DEFAULT = "default"
REFERENCE = "eager_fp32_nchw"

SQUARES = 3e-4
"""The authors' weight of the sum of all squared parameters in the loss: half of our weight decay."""

WORDS = {
    DEFAULT: "what `mixmo-fast train` does in a long run on this device",
    REFERENCE: "as the authors train: float32 (IEEE on CUDA, no TF32), NCHW, no compiler, dense soft targets, 3e-4 "
    "times the sum of squares in the loss, SGD of one parameter after the other; the network's code is ours, and cuDNN "
    "may choose its fastest algorithms",
    "eager_tf32_nchw": "the same with float32 products rounded to TF32",
    "eager_bf16_channels_last": "mixmo-fast's step, bf16 autocast, channels_last and fused SGD, neither compiled nor "
    "graphed",
    "eager_fp32_channels_last": "the same in float32",
    "compile_defaults": "torch.compile(network) with its defaults, autocast to the default's number format, NCHW, SGD "
    "as torch sets it up",
    "compile_channels_last": "the same, network and images channels_last and the compiler made to keep that layout",
    "default_without_compile": "the default step, not compiled",
    "default_without_graph": "the default step, not replayed as a CUDA graph",
    "default_fp32": "the default step in float32",
    "default_deterministic": "the default step with `--deterministic`",
}


@dataclass(frozen=True)
class Opponent:
    """One way to take a training step.

    Attributes:
        name: In tables.
        precision: Number format of its matrix products.
        image_dtype: Of the images it is given.
        channels_last: Whether they have their channels innermost, as the pipelines make them.
        make: Builds a network on the device, and the step that trains it.
        options: Of the step, where it is a `TrainingStep`.
    """

    name: str
    precision: Precision
    image_dtype: torch.dtype
    channels_last: bool
    make: Callable[[], Step]
    options: StepOptions | None = None

    def switch(self, device: torch.device) -> None:
        """Sets what torch has one switch of for the whole process, before its turn."""
        set_switches(self.options or StepOptions(self.precision), device)

    def arranged(self, batch: Batch) -> Batch:
        """A copy of a batch, its images as this one wants them."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        copies = {name: tensor.clone() for name, tensor in vars(batch).items()}
        return Batch(**copies | {"images": batch.images.to(self.image_dtype, memory_format=layout, copy=True)})


def opponents(
    config: Config, classes: int, device: torch.device, default: StepOptions, compiles: bool
) -> tuple[list[Opponent], dict[str, str]]:
    """All that make sense on this device, and those left out: name -> the one that does the same.

    Args:
        config: Network and optimiser.
        classes: K.
        device: Where they train.
        default: The options of the default step.
        compiles: Whether to have those that call the compiler though the default does not.
    """

    def ours(name: str, options: StepOptions) -> Opponent:
        def make() -> Step:
            network = build.make_network(config, classes).to(device)
            step = TrainingStep(network, make_optimizer(network, config.optimizer, options.fused_optimizer), options)
            step.start_epoch()
            return step

        return Opponent(name, options.precision, options.precision.image_dtype, options.channels_last, make, options)

    def plain(name: str, precision: Precision, make_step: Callable[..., Step], channels_last: bool = False) -> Opponent:
        def make() -> Step:
            return make_step(build.make_network(config, classes).to(device).train(), config, precision)

        return Opponent(name, precision, torch.float32, channels_last, make)

    fp32 = Precision("fp32", device.type)
    eager = StepOptions(fp32, compile=False, cuda_graph=False, fused_optimizer=True, channels_last=True)
    found = [ours(DEFAULT, default), plain(REFERENCE, fp32, reference_step)]
    fast_bf16 = choose_precision("auto", device)
    if fast_bf16.name == "bf16":
        if device.type == "cuda":  # the generation of GPUs that brought bf16 brought TF32
            found.append(plain("eager_tf32_nchw", Precision("tf32", device.type), reference_step))
        found.append(ours("eager_bf16_channels_last", replace(eager, precision=fast_bf16)))
    found.append(ours("eager_fp32_channels_last", eager))
    if default.compile or compiles:
        found.append(plain("compile_defaults", default.precision, compiled_step))
        found.append(
            plain("compile_channels_last", default.precision, partial(compiled_step, channels_last=True), True)
        )
    found += [
        ours("default_without_compile", replace(default, compile=False)),
        ours("default_without_graph", replace(default, cuda_graph=False)),
        ours("default_fp32", replace(default, precision=fp32)),
        ours("default_deterministic", replace(default, deterministic=True)),
    ]
    return _without_doubles(found)


def _without_doubles(found: list[Opponent]) -> tuple[list[Opponent], dict[str, str]]:
    first_with: dict[StepOptions, str] = {}
    kept, left_out = [], {}
    for one in found:
        if one.options is not None and one.options in first_with:
            left_out[one.name] = first_with[one.options]
            continue
        kept.append(one)
        if one.options is not None:
            first_with[one.options] = one.name
    return kept, left_out


def reference_step(network: nn.Module, config: Config, precision: Precision) -> Step:
    """The authors' step: eager, the squares in the loss, one parameter updated after the other.

    Args:
        network: A `MixMo` on its device, NCHW.
        config: Its momentum counts; the weight decay is `SQUARES`.
        precision: `fp32` or `tf32`, whose switch the caller has set.
    """
    optimizer = _sgd(network, config, weight_decay=0, foreach=False, fused=False)

    def step(batch: Batch, rate: float) -> None:
        with precision.autocast():
            loss = dense_loss(_predict(network, network, batch, torch.contiguous_format), batch)
        loss = loss + SQUARES * sum(parameter.square().sum() for parameter in network.parameters())
        _update(optimizer, loss, rate)

    return step


def compiled_step(network: nn.Module, config: Config, precision: Precision, channels_last: bool = False) -> Step:
    """What most people would write: `torch.compile(network)`, autocast, SGD as torch sets it up.

    Args:
        network: A `MixMo` on its device, NCHW.
        config: Of the optimiser.
        precision: Of the forward pass.
        channels_last: As who knows convolutions would write it, with the compiler's switch that keeps this layout.
    """
    layout, options = torch.contiguous_format, None
    if channels_last:
        layout, options = torch.channels_last, {"force_layout_optimization": True}
    optimizer = _sgd(network, config, weight_decay=config.optimizer.weight_decay)
    compiled = torch.compile(network.to(memory_format=layout), options=options)
    scaler = torch.amp.GradScaler(precision.device_type, enabled=precision.name == "fp16")

    def step(batch: Batch, rate: float) -> None:
        with precision.autocast():
            loss = dense_loss(_predict(compiled, network, batch, layout), batch)
        _update(optimizer, loss, rate, scaler)

    return step


def dense_loss(logits_NMK: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with targets of K numbers each: the weighted mean over rows, summed over members, nats."""
    image, partner = batch.labels.unbind(-1)
    classes = logits_NMK.shape[-1]
    share = batch.share.unsqueeze(-1)
    target_NMK = share * F.one_hot(image, classes) + (1 - share) * F.one_hot(partner, classes)
    loss_NM = F.cross_entropy(logits_NMK.float().flatten(0, 1), target_NMK.flatten(0, 1), reduction="none").view_as(
        batch.weight
    )
    return (batch.weight * loss_NM).mean(0).sum()


def _sgd(network: nn.Module, config: Config, **how: object) -> torch.optim.SGD:
    settings = config.optimizer
    return torch.optim.SGD(
        network.parameters(), lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, **how
    )


def _predict(forward: Callable[..., Tensor], network: nn.Module, batch: Batch, layout: torch.memory_format) -> Tensor:
    """Logits, N x M x K, of a batch's images in that layout."""
    return forward(batch.images.contiguous(memory_format=layout), network.masks(batch))


def _update(
    optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, scaler: torch.amp.GradScaler | None = None
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    if scaler is None:
        loss.backward()
        optimizer.step()
        return
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
