"""Takes a step of contestants of the training benchmark on the null GPU, and tells how convolutions' tensors lie."""

from typing import Any

import torch
from inside import CONVOLUTIONS, answer, arguments

from benchmarks.opponents import opponents
from benchmarks.training_parts import RandomData
from benchmarks.training_setting import TrainingBenchmark, make_config
from mixmo_fast.training.options import choose_options


def step(name: str, network: str, members: int, rows: int) -> dict[str, Any]:
    """Layouts of one step, and how many convolutions there were."""
    config = make_config(TrainingBenchmark(network, members, rows, "cuda"))
    device = torch.device("cuda")
    how, data = choose_options(config.step, device, macs=0), RandomData(config, device)
    found, _ = opponents(config, data.info.classes, device, how, compiles=True)
    (one,) = (one for one in found if one.name == name)
    one.switch(device)
    batch = one.arranged(data.frozen(one.image_dtype))
    take = one.make()
    torch._dynamo.reset()
    CONVOLUTIONS.clear()
    take(batch, 0.0)
    layouts = [layout for call in CONVOLUTIONS for layout in call["layouts"]]
    return {"channels_last": layouts.count("channels_last"), "tensors": len(layouts)}


if __name__ == "__main__":
    answer([step(*one) for one in arguments()])
