"""Takes some training steps of some networks on the null GPU, and tells what each step asked of it."""

from typing import Any

import torch
import torch._inductor.metrics as inductor
from inside import CONVOLUTIONS, answer, arguments, counted, counts, illegal, library

from benchmarks.training_parts import RandomData
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.errors import MixmoError
from mixmo_fast.evaluation.evaluate import predict
from mixmo_fast.run import build
from mixmo_fast.training.options import choose_options, set_switches
from mixmo_fast.training.step import TrainingStep, make_optimizer

STEPS = 7
_STRICT_FROM = 5  # replays, after three plain steps and the capture


class WaitsForTheLoss(torch.nn.Module):
    """A trunk that looks at a number on the host in every step."""

    def __init__(self, trunk: torch.nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, stem: torch.Tensor) -> torch.Tensor:
        features = self.trunk(stem)
        features.sum().item()
        return features


class ChannelsOutermost(torch.nn.Module):
    """A trunk that lays its maps out with their channels outermost."""

    def __init__(self, trunk: torch.nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, stem: torch.Tensor) -> torch.Tensor:
        return self.trunk(stem.contiguous())


SPOILT = {"item": WaitsForTheLoss, "nchw": ChannelsOutermost}


def train(
    network: str,
    members: int,
    rows: int = 8,
    spoilt: str | None = None,
    refuse_capture: bool = False,
    evaluates: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Some steps of one setting.

    Args:
        network: As benchmarks call it.
        members: M.
        rows: B.
        spoilt: One of `SPOILT`, in the place of the trunk.
        refuse_capture: Whether the null GPU refuses to end a capture.
        evaluates: Whether an evaluation follows.
        changes: Of the configuration's `step` section.

    Returns:
        Counts of each step, layouts of all convolutions' tensors, and what was said. `compiled_bytes` are those that
        the compiled parts read and write, which Inductor counts where it logs `inductor_metrics`.
    """
    library.null_gpu_refuse_capture(refuse_capture)
    config = make_config(TrainingBenchmark(network, members, rows, "cuda"))
    config = config.model_copy(update={"step": type(config.step)(**config.step.model_dump() | changes)})
    device, lines = torch.device("cuda"), []
    how = choose_options(config.step, device, macs=0, notify=lines.append)
    set_switches(how, device)
    # There is no stand-in for cuDNN's batch-norms; a compiled step has its own, and a compiler that relies on cuDNN.
    torch.backends.cudnn.enabled = how.compile
    data = RandomData(config, device)
    pipeline = data.resident(how.precision.image_dtype)
    data_bytes = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = build.make_network(config, data.info.classes).to(device)
    optimizer = make_optimizer(model, config.optimizer, how.fused_optimizer)
    step = TrainingStep(model, optimizer, how, notify=lines.append)
    if spoilt:
        model.trunk = SPOILT[spoilt](model.trunk)
    step.start_epoch(window=STEPS - 1)
    CONVOLUTIONS.clear()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    inductor.reset()
    refused_before = len(illegal())
    batches, taken, error = data.stream(pipeline), [], None
    for number in range(STEPS):
        batch = next(batches)
        if number == _STRICT_FROM and not spoilt:
            torch.cuda.set_sync_debug_mode("error")
        try:
            with counted() as found:
                step(batch, 0.1)
        except MixmoError as stopped:
            error = str(stopped)
            break
        taken.append(found)
    torch.cuda.set_sync_debug_mode("default")
    batches.close()
    pipeline.close()
    passes, evaluated = [call["pass"] for call in CONVOLUTIONS], None
    if evaluates:  # two batches of one shape, and what is left
        shape = (2 * rows + 3, data.info.height, data.info.width, 3)
        images = torch.zeros(shape, device=device, dtype=how.precision.image_dtype).permute(0, 3, 1, 2)
        test = [(part, torch.zeros(len(part), dtype=torch.int64, device=device)) for part in images.split(rows)]
        predict(model, test, how.precision.autocast, step.shared_forward)
        evaluated = len(CONVOLUTIONS) - len(passes)
    return {
        "steps": taken,
        "captured": counts()["captured"],
        "layouts": sorted({layout for call in CONVOLUTIONS for layout in call["layouts"]}),
        "convolutions": {name: passes.count(name) for name in set(passes)},
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "compiled_bytes": inductor.num_bytes_accessed,
        "evaluated": evaluated,
        "illegal": illegal()[refused_before:],
        "lines": lines,
        "error": error,
        "peak_bytes": torch.cuda.max_memory_allocated() - data_bytes,
    }


if __name__ == "__main__":
    answer([train(**setting) for setting in arguments()])
