"""AugMix of many images at once, in torch on any device: cropped bytes + plan -> normalised float32 pixels.

The decisions are `mixmo_fast.mixing.augmix`'s. As the operations' strengths are constants, each is a table: a moved
image takes each pixel from a place that depends on nothing but the image's size, and a changed tone depends on nothing
but the byte. These tables are read off Pillow itself, by what it makes of an image of numbers, so no arithmetic here
could differ from its own; only equalisation looks at the image. `augmix_pillow.py` does the same one image at a time,
with the same bits in float32.

A pixel's bytes lie in one int32 on the way. Shapes: n images, 3 chains, 4 operations of one at most, C = 3 channels,
H W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mixmo_fast.mixing.augmix import CHAINS, MOST_OPERATIONS, AugmixPlan, Operation
from pipelines.assembly.augmix_pillow import apply_operation
from pipelines.assembly.samples import send

_TONES = (Operation.POSTERIZE, Operation.SOLARIZE, Operation.INVERT)
_MOVES = (
    *(Operation.ROTATE, Operation.SHEAR_X, Operation.SHEAR_Y),
    *(Operation.TRANSLATE_X, Operation.TRANSLATE_Y),
)
_BYTES = 256
_PACKED = 4  # bytes of a pixel: its channels and one that nobody looks at, so that one number is moved, not three


class Augmix:
    """AugMix for images of one size.

    Args:
        table: float32 (C, 256), from `pipelines.assembly.assemble.normalisation_table`.
        size: (H, W), pixels.
        device: Where the images are.
    """

    def __init__(self, table: NDArray[np.float32], size: tuple[int, int], device: torch.device):
        padded = np.pad(table, ((0, _PACKED - len(table)), (0, 0)))
        self._table = torch.from_numpy(padded.reshape(-1)).to(device)
        self._first_byte = torch.arange(_PACKED, dtype=torch.int32, device=device) * _BYTES
        self._tones = torch.from_numpy(_tone_tables()).to(device)
        self._sources = torch.from_numpy(_source_tables(size)).to(device)

    def __call__(self, images: Tensor, plan: AugmixPlan) -> Tensor:
        """The transform of each image; on CUDA nobody has waited for it.

        Args:
            images: uint8 (n, H, W, C), after crop and flip.
            plan: Of these images: one leading axis, n.

        Returns:
            float32 (n, H, W, C), normalised.
        """
        channels = images.shape[-1]
        pixels = functional.pad(images, (0, _PACKED - channels)).flatten(1).view(torch.int32)
        chains = self._follow(pixels, plan).unflatten(0, (-1, CHAINS))
        weights = send([plan.chain_weight.view(np.int32), plan.blend.view(np.int32)], images.device)
        chain_weight, blend = (bits.int().view(torch.float32)[..., None, None] for bits in weights)
        # In place, because new memory costs as much as the arithmetic.
        mixture = self._normalised(chains[:, 0]).mul_(chain_weight[:, 0])
        for chain in range(1, CHAINS):
            mixture.add_(self._normalised(chains[:, chain]).mul_(chain_weight[:, chain]))
        result = self._normalised(pixels).mul_(1 - blend).add_(mixture.mul_(blend))
        return result[..., :channels].reshape(images.shape)

    def _follow(self, pixels: Tensor, plan: AugmixPlan) -> Tensor:
        """What each chain makes of its image: int32 (n, H W) -> (n * 3, H W).

        Images are grouped by what is done to them, so that the number of torch's calls does not depend on how many
        there are.
        """
        operation = plan.operation.reshape(-1, MOST_OPERATIONS)
        tone = np.select([operation == which for which in _TONES], range(len(_TONES)), -1)
        move = np.select([operation == which for which in _MOVES], range(len(_MOVES)), -1)
        source = 2 * move + (plan.sign.reshape(operation.shape) < 0)
        changes, sent = [], []
        for turn in range(MOST_OPERATIONS):
            for change, code, chosen in (
                (self._equalize, tone, operation[:, turn] == Operation.EQUALIZE),
                (self._change_tone, tone, tone[:, turn] >= 0),
                (self._move, source, move[:, turn] >= 0),
            ):
                place = np.flatnonzero(chosen)
                if len(place):
                    changes.append(change)
                    sent += [place, code[place, turn]]
        on_device = send(sent, pixels.device) if sent else []
        state = pixels.repeat_interleave(CHAINS, dim=0)
        for change, to, how in zip(changes, on_device[::2], on_device[1::2], strict=True):
            state.index_copy_(0, to, change(state.index_select(0, to), how))
        return state

    def _normalised(self, pixels: Tensor) -> Tensor:
        """float32 (n, H W, 4)."""
        at = _bytes_of(pixels).int().add_(self._first_byte)
        return self._table.index_select(0, at.flatten()).view(at.shape)

    def _change_tone(self, pixels: Tensor, code: Tensor) -> Tensor:
        """Bytes looked up in one of the tone tables for each image, int64 (n,)."""
        at = _bytes_of(pixels).int().add_((code.int() * _BYTES)[:, None, None])
        return self._tones.index_select(0, at.flatten()).view(torch.int32).view(pixels.shape)

    def _move(self, pixels: Tensor, code: Tensor) -> Tensor:
        """Pixels taken from where one of the source tables says for each image, int64 (n,)."""
        source = self._sources.index_select(0, code)
        return pixels.gather(1, source.clamp(min=0)).masked_fill_(source < 0, 0)

    def _equalize(self, pixels: Tensor, _: Tensor) -> Tensor:
        """Spreads each channel's grey levels evenly, as Pillow does."""
        count, places, channels = (*pixels.shape, _PACKED)
        row = torch.arange(count * channels, device=pixels.device).view(count, 1, channels) * _BYTES
        at = (_bytes_of(pixels) + row).flatten()
        histogram = torch.zeros(count * channels * _BYTES, dtype=torch.int64, device=pixels.device)
        histogram = histogram.scatter_add_(0, at, torch.ones_like(at)).view(-1, _BYTES)
        byte = torch.arange(_BYTES, device=pixels.device)
        brightest = histogram.gather(1, ((histogram > 0) * byte).argmax(1, keepdim=True))
        step = (places - brightest) // 255
        below = histogram.cumsum(1) - histogram
        table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
        table = torch.where(step > 0, table, byte).to(torch.uint8)
        return table.flatten().index_select(0, at).view(torch.int32).view(pixels.shape)


def _bytes_of(pixels: Tensor) -> Tensor:
    """uint8 (n, H W, 4) of int32 (n, H W)."""
    return pixels.contiguous().view(torch.uint8).unflatten(1, (-1, _PACKED))


def _tone_tables() -> NDArray[np.uint8]:
    """What each of `_TONES` makes of each byte, one after the other: uint8 (3 * 256,)."""
    ramp = Image.fromarray(np.arange(_BYTES, dtype=np.uint8)[None])
    return np.concatenate([np.asarray(apply_operation(ramp, which, 1))[0] for which in _TONES])


def _source_tables(size: tuple[int, int]) -> NDArray[np.int64]:
    """For each of `_MOVES`, either way, the pixel that each pixel comes from, -1 for black: int64 (10, H W)."""
    height, width = size
    # Black is 0, so the pixels are counted from 1.
    numbers = Image.fromarray(np.arange(1, height * width + 1, dtype=np.int32).reshape(size))
    moved = [apply_operation(numbers, which, sign) for which in _MOVES for sign in (1, -1)]
    return np.stack([np.asarray(image, dtype=np.int64).reshape(-1) - 1 for image in moved])
