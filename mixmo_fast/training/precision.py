"""The number format of a step: what the user may ask for, and what is fastest here."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mixmo_fast.errors import DeviceError

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# What `torch.cpu.get_capabilities` calls instructions that multiply bf16 numbers. Without them bf16 is emulated, and
# slow.
FAST_BF16 = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Precision:
    """The number format of convolutions and matrix products; weights, statistics and loss stay float32.

    Attributes:
        name: `fp32`, `tf32` (on CUDA: float32 whose products are rounded to 11 bits), `bf16` or `fp16`.
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
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def switch_tf32(self) -> None:
        """Tells torch, for the whole process, whether float32 products on CUDA may be rounded; its default is mixed."""
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.name == "tf32"


def processor_has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers faster than float32 ones, as far as torch can tell."""
    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # which older releases of torch do not have
    return any(capabilities.get(name, False) for name in FAST_BF16)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolves `auto` (bf16 where the device has it in hardware, else fp32) and refuses what the device does not have.

    Raises:
        DeviceError: For fp16 and tf32 on a CPU, and for bf16 or tf32 on a GPU without it.
    """
    if device.type == "cpu":
        if wanted in ("fp16", "tf32"):
            raise DeviceError(f"step.precision: {wanted} needs a CUDA device; on a CPU use fp32 or bf16")
        fastest = "bf16" if processor_has_bf16() else "fp32"
        allowed: tuple[str, ...] = ("fp32", "bf16")
    else:
        # The generation of GPUs that brought one brought the other.
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        fastest = "bf16" if has_bf16 else "fp32"
        allowed = tuple(_DTYPES) if has_bf16 else ("fp32", "fp16")
    name = fastest if wanted == "auto" else wanted
    if name not in allowed:
        raise DeviceError(f"step.precision: this GPU has no {name}; use fp16 or fp32")
    return Precision(name, device.type)
