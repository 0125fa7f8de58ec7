"""One training step: forward, loss, backward, update.

Nothing here waits for the device: loss and accuracy are accumulated there, and so is the number of the first step
whose loss was not finite; `TrainingStep.totals` reads them. On CUDA the whole step becomes a graph, so everything that
changes from step to step, the learning rate included, lies in tensors.

Shapes: N rows, M members, C channels, H W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mixmo_fast.batch import Batch
from mixmo_fast.config.schema import OptimizerConfig
from mixmo_fast.errors import DivergedError
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.networks.norm import batch_counters, count_batch
from mixmo_fast.training.distributed import ALONE, Ranks
from mixmo_fast.training.graph import GraphedUpdate
from mixmo_fast.training.loss import soft_cross_entropy
from mixmo_fast.training.options import StepOptions

_NEVER = 0


def make_optimizer(network: nn.Module, settings: OptimizerConfig, fused: bool = True) -> torch.optim.SGD:
    """SGD over all parameters, biases and batch-norm included, with coupled weight decay.

    A decay of 6e-4 is the authors' term of 3e-4 times the sum of all squared parameters in the loss.

    Args:
        network: Whose parameters.
        settings: The configuration's.
        fused: Whether one kernel updates all parameters, or they are updated one after the other.
    """
    return torch.optim.SGD(
        network.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=fused,
        foreach=False,
    )


@dataclass(frozen=True)
class StepTotals:
    """What happened in an epoch so far.

    Attributes:
        loss: Mean loss of a step, nats, summed over members.
        top1: Share of (row, member) pairs whose strongest class is the image's, mixed images included.
        rows: Network input rows.
        curve: For each window of steps, the last one may be shorter: the steps taken at its end, and its mean loss.
    """

    loss: float
    top1: float
    rows: int
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class EpochSoFar:
    """What a rank has added up in an epoch that is not over.

    Attributes:
        steps: Taken.
        rows: Network input rows of all ranks.
        loss: Sum over steps of the loss of this rank's rows, nats.
        hits: (Row, member) pairs of its own whose strongest class is the image's.
        marks: Of each window of steps that is over, the steps taken at its end, and what `loss` was then.
    """

    steps: int
    rows: int
    loss: float
    hits: int
    marks: tuple[tuple[int, float], ...] = ()


class TrainingStep:
    """Takes one optimiser step a call.

    Args:
        network: On its device.
        optimizer: Over its parameters.
        options: How the step is computed.
        ranks: The processes that train together, each with its part of a step's rows.
        notify: Told in a line when the step is slower than it was meant to be.
    """

    def __init__(
        self,
        network: MixMo,
        optimizer: torch.optim.Optimizer,
        options: StepOptions,
        ranks: Ranks = ALONE,
        notify: Callable[[str], None] = lambda _: None,
    ):
        self.device = next(network.parameters()).device
        self.options, self.optimizer = options, optimizer
        self.ranks = ranks
        self._generators = [torch.default_generator]
        if self.device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[self.device.index or 0])
        self.network = network.to(memory_format=torch.channels_last) if options.channels_last else network
        self.network.stem = options.stem
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision.name == "fp16")
        self._start_momentum()
        self._trained = self.ranks.wrap(self.network, self.device)
        self._counters = batch_counters(self.network)
        self._forward = self._loss_and_hits
        # Where one image enters for all members, in evaluations between epochs.
        self.shared_forward: Callable[[Tensor], Tensor] | None = None
        if options.compile:
            how = _compiler_options(self.device, options.deterministic) or None
            self._forward = torch.compile(self._loss_and_hits, dynamic=False, options=how)
            if self.device.type == "cuda":  # a CPU's evaluations are too few to pay for it
                self.shared_forward = torch.compile(self.network, dynamic=False, options=how)
        self._notify = notify
        self._update: Callable[[Batch], None] = self._take
        if options.cuda_graph:
            refused = None if options.graph_required else self._goes_on_without_graph
            self._update = GraphedUpdate(self._take, self.device, refused)
        # A kernel reads the rate from the device; what updates one parameter after the other wants a number.
        reads_device = self.device.type == "cuda" and options.fused_optimizer
        self._rate = torch.zeros((), device=self.device) if reads_device else None
        self._loss = torch.zeros((), device=self.device, dtype=torch.float64)
        self._hits = torch.zeros((), device=self.device, dtype=torch.int64)
        self._taken = torch.zeros((), device=self.device, dtype=torch.int64)
        self._bad_step = torch.full((), _NEVER, device=self.device, dtype=torch.int64)  # counted from 1
        self._steps = self._rows = 0
        self._window: int | None = None
        self._marks: list[tuple[int, Tensor]] = []

    def _start_momentum(self) -> None:
        """Zeros, with which the first step does what it does without any.

        Left alone, the fused update allocates them in its first step, and leaves them as they are if that is one which
        fp16 skips.
        """
        for group in self.optimizer.param_groups:
            if group["momentum"]:
                for parameter in group["params"]:
                    self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def begin_with(self, momentum: Mapping[str, Tensor]) -> None:
        """Starts from the momentum of another training, by parameter, in the place of zeros."""
        for name, parameter in self.network.named_parameters():
            if name in momentum:
                self.optimizer.state[parameter]["momentum_buffer"].copy_(momentum[name])

    def resume(self, optimizer: dict[str, Any], scaler: dict[str, Any]) -> None:
        """Goes on from the states of an optimiser and a gradient scaler; how the step is computed stays as it is."""
        self.optimizer.load_state_dict(optimizer)
        for group in self.optimizer.param_groups:
            group |= {"fused": self.options.fused_optimizer, "foreach": False}
        for parameter, state in self.optimizer.state.items():
            if "momentum_buffer" in state:  # laid out in memory as it was, while a kernel walks all of them alike
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(state["momentum_buffer"])
        if scaler and self.scaler.is_enabled():  # the precision may have changed in between
            self.scaler.load_state_dict(scaler)

    def __call__(self, batch: Batch, rate: float, seed: int | None = None) -> None:
        """Updates the network with one batch at a learning rate.

        Args:
            batch: The rows.
            rate: The learning rate.
            seed: Of torch's own generators, which dropout and the like draw from; None: they stay as they are.
        """
        if seed is not None:
            for generator in self._generators:  # far quicker than torch.manual_seed
                generator.manual_seed(seed)
        where_read = rate if self._rate is None else self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = where_read
        self._update(batch)
        self._steps += 1
        self._rows += len(batch.images) * self.ranks.count
        if self._window and self._steps % self._window == 0:
            self._marks.append((self._steps, self._loss.clone()))  # on the device, behind the step

    def _take(self, batch: Batch) -> None:
        images = batch.images if self.options.channels_last else batch.images.contiguous()
        with self.options.precision.autocast():
            loss, hits = self._forward(images, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        count_batch(self._counters)
        loss = loss.detach()
        self._loss += loss
        self._hits += hits
        first_bad = ~torch.isfinite(loss) & (self._bad_step == _NEVER)
        self._taken += 1
        self._bad_step.copy_(torch.where(first_bad, self._taken, self._bad_step))

    def _goes_on_without_graph(self, reason: str) -> None:
        self._notify(f"the step cannot be captured as a CUDA graph here ({reason}): training goes on without, slower")
        # The capture may have ended in the middle of a step, and a scaler is strict about the order of its calls.
        state = self.scaler.state_dict()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scaler.is_enabled())
        self.scaler.load_state_dict(state)

    def _loss_and_hits(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        logits_NMK = self._trained(images, self.network.masks(batch))
        loss = soft_cross_entropy(logits_NMK, batch.labels, batch.share, batch.weight)
        return loss, (logits_NMK.detach().argmax(-1) == batch.labels[..., 0]).sum()

    def start_epoch(self, window: int | None = None) -> None:
        """Starts the totals anew and puts the network into training mode.

        Args:
            window: Steps of which a mean loss is kept; None: the epoch's alone is.
        """
        self.network.train()
        for total in (self._loss, self._hits, self._taken):
            total.zero_()
        self._bad_step.fill_(_NEVER)
        self._steps = self._rows = 0
        self._window, self._marks = window, []

    def so_far(self) -> EpochSoFar:
        """What this rank has added up since the epoch's start. Waits for the device.

        Raises:
            DivergedError: As `totals`.
        """
        self._require_finite()
        loss, *at_marks = torch.stack((self._loss, *(total for _, total in self._marks))).tolist()
        marks = zip((steps for steps, _ in self._marks), at_marks, strict=True)
        return EpochSoFar(self._steps, self._rows, loss, int(self._hits.item()), tuple(marks))

    def go_on(self, so_far: EpochSoFar) -> None:
        """Goes on in the middle of an epoch, after `start_epoch`, as if its first steps had been taken here."""
        self._steps, self._rows = so_far.steps, so_far.rows
        self._loss.fill_(so_far.loss)
        self._hits.fill_(so_far.hits)
        self._taken.fill_(so_far.steps)
        self._marks = [(steps, torch.full_like(self._loss, loss)) for steps, loss in so_far.marks]

    def totals(self, of_all_ranks: bool = False) -> StepTotals:
        """Means since the epoch's start. Waits for the device.

        Args:
            of_all_ranks: Whether to gather what the other ranks saw; then each of them has to ask.

        Raises:
            DivergedError: When a loss was not finite, naming the step, counted from 0 within the epoch.
        """
        self._require_finite()
        marks = [*self._marks, (self._steps, self._loss)]
        seen = torch.stack((self._hits.double(), *(total for _, total in marks)))
        hits, *losses = (self.ranks.sum(seen) if of_all_ranks else seen).tolist()
        ranks = self.ranks.count if of_all_ranks else 1
        windows = pairwise(zip((0, *(steps for steps, _ in marks)), (0.0, *losses), strict=True))
        return StepTotals(
            loss=losses[-1] / max(1, self._steps * ranks),
            top1=hits / max(1, self._rows * self.network.members * ranks / self.ranks.count),
            rows=self._rows,
            curve=tuple(
                (end, (loss - before) / ((end - start) * ranks))
                for (start, before), (end, loss) in windows
                if end > start
            ),
        )

    def _require_finite(self) -> None:
        bad_step = self._bad_step.item()
        if bad_step != _NEVER:
            raise DivergedError(f"the loss is not finite since step {bad_step - 1}")


def _compiler_options(device: torch.device, deterministic: bool) -> dict[str, str | int | bool | Callable[..., Any]]:
    """What Inductor is told, of what this release knows.

    It chooses between kernels by timing them, unless it may not. On a GPU, small kernels that do not depend on each
    other become one: with all that is done for fewer, 310 launches of WideResNet-28-10 become 226.
    """
    from torch._inductor import config

    wanted = {"deterministic": deterministic, "combo_kernels": device.type == "cuda"}
    return {name: True for name, on in wanted.items() if on and hasattr(config, name)}
