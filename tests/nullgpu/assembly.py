"""Lets Inductor emit the assembly for an H100, writes the code to a file, and tells how its kernel was called."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from emitted import ARRAYS, PADDING
from inside import answer, arguments
from torch._inductor import metrics
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._inductor.utils import run_and_get_code

from pipelines.assembly import assemble
from pipelines.assembly.assemble import ONE_KERNEL, assemble_pixels


def emit(target: str, dtype: str, spoilt: str | None = None) -> dict[str, Any]:
    """Compiles the assembly of `emitted.ARRAYS`.

    Args:
        target: The file for the code.
        dtype: Of the pixels.
        spoilt: `sum`: one of all pixels is taken on the way, which cannot be fused with what follows; `fused`: the
            compiler may round a product and a sum once.

    Returns:
        `kernels`, how many; and of the last one `pointers`, the names of the arrays that it was given, in order.
    """
    torch._dynamo.reset()
    metrics.reset()
    arrays = {name: torch.empty(shape, dtype=getattr(torch, kind), device="cuda") for name, shape, kind in ARRAYS}
    names = {array.data_ptr(): name for name, array in arrays.items()}
    pointers: list[str] = []
    launch, mix_pixels = CachingAutotuner.run, assemble.mix_pixels

    def seen(kernel: CachingAutotuner, *given: Any, **options: Any) -> Any:
        pointers[:] = [names.get(one.data_ptr(), "pixels") for one in given if isinstance(one, torch.Tensor)]
        return launch(kernel, *given, **options)

    def mixed(*parts: torch.Tensor) -> torch.Tensor:
        pixels = mix_pixels(*parts)
        return pixels * pixels.sum() if spoilt == "sum" else pixels

    with patch.object(CachingAutotuner, "run", seen), patch.object(assemble, "mix_pixels", mixed):
        options = ONE_KERNEL | ({"emulate_precision_casts": False} if spoilt == "fused" else {})
        compiled = torch.compile(assemble_pixels, dynamic=False, options=options)
        _, codes = run_and_get_code(compiled, *arrays.values(), PADDING, getattr(torch, dtype))
    Path(target).write_text("\n".join(codes))
    return {"kernels": metrics.generated_kernel_count, "pointers": pointers}


if __name__ == "__main__":
    answer([emit(*one) for one in arguments()])
