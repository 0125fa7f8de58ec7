"""One training step: forward, loss, backward, update; and the number format it runs in.

Nothing here waits for the device: loss and accuracy are accumulated there and read by `TrainingStep.totals`.

Shapes: N rows, M members, C channels, H W pixels.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mixmo_fast.batch import Batch
from mixmo_fast.config.schema import Config, OptimizerConfig
from mixmo_fast.errors import DeviceError
from mixmo_fast.mixing.block import render_masks
from mixmo_fast.training.loss import soft_cross_entropy

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The number format of convolutions and matrix products; weights, statistics and loss stay float32.

    On a GPU, torch computes float32 convolutions in TF32 unless `torch.backends.cudnn.allow_tf32` is turned off.

    Attributes:
        name: `fp32`, `bf16` or `fp16`.
        device_type: `cpu` or `cuda`.
    """

    name: str
    device_type: str

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return _DTYPES[self.name]

    @property
    def image_dtype(self) -> torch.dtype:
        """Of the images a pipeline should hand out: the activations' on a GPU, where the cast is then free."""
        return self.dtype if self.device_type == "cuda" else torch.float32

    def autocast(self) -> AbstractContextManager:
        """The context to run a forward pass in."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, self.dtype)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolves `auto` (bf16 on a GPU that has it, else fp32) and refuses what the device does not have.

    Raises:
        DeviceError: For fp16 on a CPU, where it is neither fast nor precise, and bf16 on a GPU without it.
    """
    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise DeviceError("step.precision: fp16 needs a CUDA device; on a CPU use fp32 (or bf16 where it is fast)")
    if wanted == "bf16" and not has_bf16:
        raise DeviceError("step.precision: this GPU has no bf16; use fp16 or fp32")
    return Precision(wanted, device.type)


def make_optimizer(network: nn.Module, settings: OptimizerConfig) -> torch.optim.SGD:
    """SGD over all parameters, biases and batch-norm included, with coupled weight decay.

    A decay of 6e-4 is the authors' term of 3e-4 times the sum of all squared parameters in the loss.
    """
    return torch.optim.SGD(
        network.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )


@dataclass(frozen=True)
class StepTotals:
    """What happened in an epoch so far.

    Attributes:
        loss: Mean loss of a step, nats, summed over members.
        top1: Share of (row, member) pairs whose strongest class is the image's, mixed images included.
        rows: Network input rows.
    """

    loss: float
    top1: float
    rows: int


class TrainingStep:
    """Takes one optimiser step a call.

    Args:
        network: A `MultiMemberNetwork` on its device.
        optimizer: Over its parameters.
        precision: Of the forward pass.
        config: For `step.channels_last` and `step.compile`.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, config: Config):
        device = next(network.parameters()).device
        self.network = network.to(memory_format=torch.channels_last) if config.step.channels_last else network
        self.optimizer = optimizer
        self.precision = precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.name == "fp16")
        self._channels_last = config.step.channels_last
        self._forward = torch.compile(self._loss_and_hits) if config.step.compile else self._loss_and_hits
        self._loss = torch.zeros((), device=device, dtype=torch.float64)
        self._hits = torch.zeros((), device=device, dtype=torch.int64)
        self._steps = self._rows = 0

    def __call__(self, batch: Batch, rate: float) -> None:
        """Updates the network with one batch at a learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = batch.images if self._channels_last else batch.images.contiguous()
        with self.precision.autocast():
            loss, hits = self._forward(images, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._loss += loss.detach()
        self._hits += hits
        self._steps += 1
        self._rows += len(batch.images)

    def _loss_and_hits(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        masks = None
        if self.network.members > 1:
            stride = self.network.stem_stride
            height, width = images.shape[2] // stride, images.shape[3] // stride
            masks = render_masks(batch.feature_box, batch.feature_values, height, width, batch.feature_pattern)
        logits_NMK = self.network(images, masks)
        loss = soft_cross_entropy(logits_NMK, batch.labels, batch.share, batch.weight)
        return loss, (logits_NMK.detach().argmax(-1) == batch.labels[..., 0]).sum()

    def start_epoch(self) -> None:
        """Starts the totals anew and puts the network into training mode."""
        self.network.train()
        self._loss.zero_()
        self._hits.zero_()
        self._steps = self._rows = 0

    def totals(self) -> StepTotals:
        """Means since the epoch's start. Waits for the device."""
        return StepTotals(
            loss=self._loss.item() / max(1, self._steps),
            top1=self._hits.item() / max(1, self._rows * self.network.members),
            rows=self._rows,
        )
