"""How a training step is computed: each `auto` of the configuration's `step` section, decided for this machine.

Nothing here changes what is computed beyond rounding; every choice can be turned off from the command line
(`--set step.compile=false`), so that a suspicion can be checked.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mixmo_fast.compilers import missing_for
from mixmo_fast.config.schema import StepConfig
from mixmo_fast.cores import available_cores
from mixmo_fast.errors import ConfigError, DeviceError
from mixmo_fast.networks.multi import Stem
from mixmo_fast.training.precision import Precision, choose_precision

# On two cores, compiled code was 7 % faster in bf16 and 15 % in fp32 (WideResNet-16-2), and compiling took 15 to 30 s:
# it pays for runs longer than some minutes, which they fill with this many multiply-accumulates forward.
_MACS_WORTH_COMPILING = 2e13

# cuBLAS gives the same bits on every run only with a workspace of fixed size, which it reads when it starts.
_CUBLAS_WORKSPACE = ":4096:8"


@dataclass(frozen=True)
class StepOptions:
    """How a step is computed.

    Attributes:
        precision: Number format.
        channels_last: Whether feature maps have their channels innermost in memory.
        stem: How the encoders are computed in training.
        compile: Whether forward pass and loss, and with them the backward pass, are compiled by torch.
        cuda_graph: Whether the whole step is captured once and then replayed.
        graph_required: Whether a step that cannot be captured is an error, instead of one without a graph.
        cudnn_benchmark_limit: Algorithms that cuDNN tries for each convolution; 0: all.
        fused_optimizer: Whether one kernel updates all parameters.
        deterministic: Whether only operations are used that give the same bits on every run.
    """

    precision: Precision
    channels_last: bool = True
    stem: Stem = "separate"
    compile: bool = False
    cuda_graph: bool = False
    graph_required: bool = True
    cudnn_benchmark_limit: int = 10
    fused_optimizer: bool = True
    deterministic: bool = False


def choose_options(
    settings: StepConfig,
    device: torch.device,
    macs: float,
    ranks: int = 1,
    notify: Callable[[str], None] = lambda _: None,
    strides_over_map: str | None = None,
) -> StepOptions:
    """Decides what the configuration leaves open.

    Args:
        settings: The configuration's `step` section.
        device: Where the step runs.
        macs: Multiply-accumulates of all forward passes of the run: how long it will take.
        ranks: Processes that train together. With several nothing is captured, and a CPU compiles only if asked to.
        notify: Told in a line when the step will be slower than it could be.
        strides_over_map: A convolution whose stride is longer than its map, if there is one.

    Raises:
        DeviceError: For what the device does not have.
        ConfigError: For a CUDA graph of an update that cannot be captured, and bf16 where a CPU gets it wrong.
    """
    cuda = device.type == "cuda"
    if settings.cuda_graph is True:
        if not cuda:
            raise DeviceError("step.cuda_graph: found true, which needs a CUDA device; use auto or false")
        if not settings.fused_optimizer:
            raise ConfigError("step.cuda_graph: found true with step.fused_optimizer false, allowed: auto or false")
        if ranks > 1:
            raise ConfigError(f"step.cuda_graph: found true with {ranks} ranks, allowed: auto or false")
    missing, compiles = missing_for(device), settings.compile
    if cuda and missing:
        notify(f"nothing is compiled, which makes this GPU slower: {missing}")
    if compiles is True and missing:
        raise DeviceError(f"step.compile: found true, which needs a compiler, but {missing}; use auto or false")
    if compiles == "auto":
        compiles = not missing and (cuda or (ranks == 1 and macs >= _MACS_WORTH_COMPILING))
    graphs = settings.cuda_graph
    if graphs == "auto":
        graphs = cuda and ranks == 1 and settings.fused_optimizer
    return StepOptions(
        precision=_right_precision(settings.precision, device, strides_over_map, notify),
        channels_last=settings.channels_last,
        # On a CPU a grouped convolution takes 1.1 to 2.5 times as long, forward and backward, where it is not compiled
        # (2 and 3 members); compiled, either may win. For a GPU, the compiler leaves the layout of all feature maps
        # alone once a graph holds a grouped convolution. What is fastest there has not been measured yet.
        stem="separate" if settings.stem == "auto" else settings.stem,
        compile=compiles,
        cuda_graph=graphs,
        graph_required=settings.cuda_graph is True,
        cudnn_benchmark_limit=settings.cudnn_benchmark_limit,
        fused_optimizer=settings.fused_optimizer,
        deterministic=settings.deterministic,
    )


def _right_precision(
    wanted: str, device: torch.device, strides_over_map: str | None, notify: Callable[[str], None]
) -> Precision:
    """`choose_precision`, but float32 where bfloat16 goes wrong.

    On a CPU with AVX512-BF16 (torch 2.14) a convolution of 3x3 and stride 2 whose map is a single pixel leaves the
    gradient of those weights that met padding alone as whatever lay in memory, NaN included.
    """
    precision = choose_precision(wanted, device)
    if strides_over_map is None or device.type != "cpu" or precision.name != "bf16":
        return precision
    reason = f"in bf16 a CPU gives wrong gradients where a stride is longer than the map ({strides_over_map})"
    if wanted == "bf16":
        raise ConfigError(f"step.precision: found bf16, allowed: auto or fp32, because {reason}")
    notify(f"fp32, because {reason}")
    return choose_precision("fp32", device)


def set_switches(options: StepOptions, device: torch.device) -> None:
    """Sets torch's switches for the whole process. Call it before anything runs on a GPU."""
    options.precision.switch_tf32()
    # torch starts a thread a core, also in a container that has time for fewer.
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
        # We never read it, and filling takes time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(options.deterministic)
    # All batches have one shape, so that trying all algorithms once pays; which one wins may differ between runs.
    torch.backends.cudnn.benchmark = device.type == "cuda" and not options.deterministic
    torch.backends.cudnn.benchmark_limit = options.cudnn_benchmark_limit
    torch.backends.cudnn.deterministic = options.deterministic
