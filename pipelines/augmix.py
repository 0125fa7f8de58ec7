"""AugMix on uint8 images (Hendrycks et al. 2020, arXiv 1912.02781): plan + images -> images, all of them at once.

The decisions are `mixmo_fast.mixing.augmix`'s. Here they become whole numbers on the host (`fixed_point`), and all that
follows is whole numbers too: so the CPU's kernel (`pipelines.augmix_kernels`), its torch twin for CUDA, and any number
of images at a time give the same bits. What each operation does is what Pillow's does, on bytes.

The mixture of the chains is rounded to bytes, at most half a grey level off. It lets all that comes behind, crop, flip,
normalisation and MSDA, be the same as for any other images, bit for bit.

Shapes: D images, 3 chains, 3 operations of a chain at most, C = 3 channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixmo_fast.mixing.augmix import AugmixPlan, Operation

NOTHING, EQUALIZE, TONE, AFFINE = range(4)
"""What is done to an image, as far as pixels are concerned."""

POSITION_BITS = 16
WEIGHT_BITS = 16
FRACTION_BITS = 11
"""Of the distance to a neighbouring pixel: four bytes, each times a product of two of these, fit an int32."""

_NUMBERS = 6
_IMAGES_AT_ONCE = 1024  # because what torch keeps meanwhile is many times their size


@dataclass(frozen=True)
class Transforms:
    """The transforms of D images as whole numbers.

    Attributes:
        kind: uint8 (D, 3, 3), one of the four above for each operation of each chain.
        number: int32 (D, 3, 3, 6). Of `TONE`: threshold, from which on a byte v becomes 255 - v, and a mask of the
            bits that are kept. Of `AFFINE`: a to f; the pixel (x, y) comes from (a x + b y + c, d x + e y + f), where
            whole numbers are the pixels' centres, in units of 2**-16 pixels.
        weight: int32 (D, 4), of the image and its chains, in units of 2**-16; they sum to 1.
    """

    kind: NDArray[np.uint8]
    number: NDArray[np.int32]
    weight: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    def of(self, images: slice) -> "Transforms":
        """Those of some images (views)."""
        return Transforms(self.kind[images], self.number[images], self.weight[images])


def apply_augmix(images: Tensor, plan: AugmixPlan) -> Tensor:
    """The transform of each image, whatever else is transformed with it.

    Args:
        images: uint8 (D, H, W, C), on any device.
        plan: Of these images.

    Returns:
        uint8 (D, H, W, C), on the same device; on CUDA nobody has waited for it.
    """
    transforms = fixed_point(plan, images.shape[1], images.shape[2])
    out = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    if images.device.type == "cpu":
        from pipelines.augmix_kernels import augment_images  # numba, which torch's twin has no use for

        everything = np.arange(len(images), dtype=np.int32)
        arrays = transforms.kind, transforms.number, transforms.weight
        augment_images(images.contiguous().numpy(), everything, *arrays, out.numpy(), 0, len(images))
    else:
        apply_by_torch(images, transforms, out)
    return out


def fixed_point(plan: AugmixPlan, height: int, width: int) -> Transforms:
    """A plan as whole numbers, for images of that size.

    Levels become strengths as in the published AugMix: level / 10 of 30 degrees, of 4 bits that are lost, of 256 grey
    levels, of a third of the image's side, all cut to whole numbers, or of a shear by 0.3.
    """
    level, operation = plan.level, plan.operation
    kind = np.zeros(level.shape, dtype=np.uint8)
    kind[operation == Operation.EQUALIZE] = EQUALIZE
    number = np.zeros((*level.shape, _NUMBERS), dtype=np.int32)

    def set_tone(which: Operation, threshold: NDArray, mask: NDArray) -> None:
        here = operation == which
        kind[here] = TONE
        number[here, 0], number[here, 1] = threshold[here], mask[here]

    always, never, all_bits = (np.full(level.shape, value) for value in (0, 256, 255))
    set_tone(Operation.INVERT, always, all_bits)
    set_tone(Operation.SOLARIZE, 256 - (level * 256 / 10).astype(np.int64), all_bits)
    kept = 4 - (level * 4 / 10).astype(np.int64)
    set_tone(Operation.POSTERIZE, never, 256 - (1 << (8 - kept)))

    one, zero = np.ones(level.shape), np.zeros(level.shape)
    angle = np.deg2rad((level * 30 / 10).astype(np.int64) * plan.sign)
    shear = level * 0.3 / 10 * plan.sign
    across, down = ((level * (side / 3) / 10).astype(np.int64) * plan.sign for side in (width, height))
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = width / 2, height / 2
    # Counter-clockwise around the centre; shears leave the upper left corner where it is. Positions in pixels, with
    # the corner at 0, as Pillow has them.
    matrices = {
        Operation.ROTATE: (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y),
        Operation.SHEAR_X: (one, shear, zero, zero, one, zero),
        Operation.SHEAR_Y: (one, zero, zero, shear, one, zero),
        Operation.TRANSLATE_X: (one, zero, across, zero, one, zero),
        Operation.TRANSLATE_Y: (one, zero, zero, zero, one, down),
    }
    for which, (a, b, c, d, e, f) in matrices.items():
        here = operation == which
        centred = np.stack((a, b, (a + b - 1) / 2 + c, d, e, (d + e - 1) / 2 + f), axis=-1)[here]
        kind[here] = AFFINE
        number[here] = np.rint(centred * (1 << POSITION_BITS))
    return Transforms(kind, number, _weights(plan))


def _weights(plan: AugmixPlan) -> NDArray[np.int32]:
    """int32 (D, 4), which sum to one exactly, so that what is the same in all chains stays as it is."""
    whole = 1 << WEIGHT_BITS
    shares = np.concatenate((1 - plan.mixed[:, None], plan.mixed[:, None] * plan.chain_weight), axis=1)
    weight = np.rint(shares * whole).astype(np.int32)
    weight[np.arange(len(weight)), weight.argmax(axis=1)] += whole - weight.sum(axis=1)
    return weight


def apply_by_torch(images: Tensor, transforms: Transforms, out: Tensor) -> None:
    """The transforms of D images in plain torch: bit for bit `pipelines.augmix_kernels.augment_images`.

    The images of all chains are grouped by what is done to them, so that the number of torch's calls does not depend
    on how many there are.

    Args:
        images: uint8 (D, H, W, C), on any device.
        transforms: Of these images.
        out: uint8 (D, H, W, C) on that device, overwritten.
    """
    for first in range(0, len(images), _IMAGES_AT_ONCE):
        some = slice(first, first + _IMAGES_AT_ONCE)
        out[some] = _some_by_torch(images[some], transforms.of(some))


def _some_by_torch(images: Tensor, transforms: Transforms) -> Tensor:
    count, chains, depth = transforms.kind.shape
    kind = transforms.kind.reshape(count * chains, depth)
    number = transforms.number.reshape(count * chains, depth, _NUMBERS)
    groups = [(turn, what) for turn in range(depth) for what in (EQUALIZE, TONE, AFFINE)]
    places = [np.flatnonzero(kind[:, turn] == what) for turn, what in groups]
    numbers = [number[place, turn] for place, (turn, _) in zip(places, groups, strict=True)]
    # One copy of everything to the device.
    *on_device, weight = send([*places, *numbers, transforms.weight], images.device)
    weight = weight.int()
    state = images.repeat_interleave(chains, dim=0)
    turns = zip(groups, on_device[: len(groups)], on_device[len(groups) :], strict=True)
    for (_, what), place, of_these in turns:
        if len(place):
            change = {EQUALIZE: _equalize, TONE: _tone, AFFINE: _affine}[what]
            state.index_copy_(0, place, change(state.index_select(0, place), of_these))
    mixture = images.int() * weight[:, 0, None, None, None] + (1 << WEIGHT_BITS - 1)
    for chain, of_chain in enumerate(state.unflatten(0, (count, chains)).unbind(1), start=1):
        mixture += of_chain.int() * weight[:, chain, None, None, None]
    return (mixture >> WEIGHT_BITS).to(torch.uint8)


def send(arrays: Sequence[NDArray], device: torch.device) -> list[Tensor]:
    """Arrays of whole numbers, of any shapes, as int64 tensors on a device, in one copy that nobody waits for."""
    sizes = [array.size for array in arrays]
    packed = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=device.type == "cuda")
    np.concatenate([array.ravel() for array in arrays], out=packed.numpy(), casting="safe")
    parts = packed.to(device, non_blocking=True).split(sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _tone(images: Tensor, number: Tensor) -> Tensor:
    """Solarize, invert, posterize: (n, H, W, C) and (n, 6)."""
    threshold, mask = (number[:, which, None, None, None] for which in (0, 1))
    return torch.where(images < threshold, images, 255 - images) & mask.to(torch.uint8)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """Spreads each channel's grey levels evenly: (n, H, W, C)."""
    count, height, width, channels = images.shape
    row = torch.arange(count * channels, device=images.device).view(count, 1, 1, channels) * 256
    at = (images + row).flatten()
    histogram = torch.zeros(count * channels * 256, dtype=torch.int64, device=images.device)
    histogram = histogram.scatter_add_(0, at, torch.ones_like(at)).view(-1, 256)
    last = histogram.gather(1, (histogram > 0).int().mul(torch.arange(256, device=images.device)).argmax(1, True))
    step = (height * width - last) // 255
    below = histogram.cumsum(1) - histogram
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.flatten()[at].to(torch.uint8).view(images.shape)


def _affine(images: Tensor, number: Tensor) -> Tensor:
    """Rotations, shears, translations, bilinear, 0 outside of the image: (n, H, W, C) and (n, 6)."""
    count, height, width, channels = images.shape
    a, b, c, d, e, f = number.int()[..., None, None].unbind(1)
    y, x = (torch.arange(side, dtype=torch.int32, device=images.device) for side in (height, width))
    y = y[:, None]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # (n, H, W)
    half = 1 << POSITION_BITS - 1
    inside = (from_x >= -half) & (from_x < (width << POSITION_BITS) - half)
    inside &= (from_y >= -half) & (from_y < (height << POSITION_BITS) - half)
    fraction_x, fraction_y = (
        (position & (2 * half - 1)) >> (POSITION_BITS - FRACTION_BITS) for position in (from_x, from_y)
    )
    x_low, y_low = from_x >> POSITION_BITS, from_y >> POSITION_BITS
    pixels = images.reshape(-1, channels)
    image = torch.arange(count, device=images.device)[:, None, None] * height
    one, total = 1 << FRACTION_BITS, torch.zeros((), dtype=torch.int32, device=images.device)
    for down, share_y in ((0, one - fraction_y), (1, fraction_y)):
        line = (image + (y_low + down).clamp(0, height - 1)) * width
        for right, share_x in ((0, one - fraction_x), (1, fraction_x)):
            at = (line + (x_low + right).clamp(0, width - 1)).flatten()
            colour = pixels.index_select(0, at).view(images.shape)
            total = total + colour * (share_y * share_x)[..., None]
    mean = (total + (1 << 2 * FRACTION_BITS - 1)) >> 2 * FRACTION_BITS
    return torch.where(inside[..., None], mean, 0).to(torch.uint8)
