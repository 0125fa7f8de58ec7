"""The kernels that a recipe's crops want: of the image's own size, or resized; numba's for a core, torch's for CUDA.

Shapes: N images at hand, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.compilers import can_compile
from mixmo_fast.mixing.plan import StepPlan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import ONE_KERNEL, assemble_pixels, assemble_resized_pixels
from pipelines.assembly.kernels import assemble_resized_rows, assemble_rows
from pipelines.assembly.resize import resize_taps


class Pixels:
    """Gathers, crops, flips, normalises and mixes, in one pass over the pixels.

    Args:
        table: float32 (C, 256), from `pipelines.assembly.assemble.normalisation_table`.
        recipe: What the plans are drawn from.
        device: Where the images are.
        dtype: Of what torch makes; numba's is float32.
    """

    def __init__(self, table: np.ndarray, recipe: Recipe, device: torch.device, dtype: torch.dtype):
        self.padding, self.dtype, self.resized = recipe.crop_padding, dtype, recipe.resized_crop is not None
        self._flat_table = np.ascontiguousarray(table).reshape(-1)
        self._table = torch.from_numpy(table).to(device)
        self._taps = tuple(resize_taps(side) for side in recipe.image_size) if self.resized else ()
        self._device_taps = tuple(torch.from_numpy(taps.copy()).to(device) for taps in self._taps)
        self._assemble: Callable[..., Tensor] = assemble_resized_pixels if self.resized else assemble_pixels
        if device.type == "cuda" and can_compile(device):
            self._assemble = torch.compile(self._assemble, dynamic=False, options=ONE_KERNEL)

    def by_torch(self, images: Tensor, plan: StepPlan[Tensor]) -> Tensor:
        """The pixels of a step: (B, H, W, M * C) of `dtype`.

        Args:
            images: uint8 (N, H, W, C), on the device.
            plan: Of the step, there; the indices count in `images`.
        """
        masks = plan.pixel_box, plan.pixel_pattern, plan.pixel_values
        place, how = (plan.crop, self._device_taps) if self.resized else (plan.offset, self.padding)
        return self._assemble(images, self._table, plan.index, place, plan.flip, *masks, how, self.dtype)

    def by_numba(self, images: Tensor, plan: StepPlan[np.ndarray], out: Tensor, begin: int, end: int) -> None:
        """The pixels of the rows [begin, end) on one core, without Python's lock.

        Args:
            images: uint8 (N, H, W, C), on the host.
            plan: Of B rows, as arrays; the indices count in `images`.
            out: float32 (B, H, W, M * C), on the host, overwritten in these rows.
            begin: The first row.
            end: The row behind the last.
        """
        source = images.numpy().reshape(-1), tuple(images.shape[1:3]), self._flat_table
        masks = plan.pixel_box, plan.pixel_pattern, plan.pixel_values
        rows = out.numpy().reshape(-1), begin, end
        if self.resized:
            assemble_resized_rows(*source, plan.index, plan.crop, plan.flip, *masks, self._taps, *rows)
        else:
            assemble_rows(*source, plan.index, plan.offset, plan.flip, *masks, self.padding, *rows)
