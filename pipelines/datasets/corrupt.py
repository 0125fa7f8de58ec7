"""Synthetic corruptions of any data set's images, made where they lie. They are NOT CIFAR-C.

They are for data sets that nobody has published corrupted images of, and for comparing networks with each other: kinds
and strengths are this program's own, so no number measured on them may stand beside one measured on CIFAR-10-C,
CIFAR-100-C or ImageNet-C (arXiv 1903.12261), even where a name is the same. Severities 1 to 5 are:

| corruption       | what is done, and the number that grows or falls                  | at severities 1 to 5          |
|------------------|-------------------------------------------------------------------|-------------------------------|
| `gaussian_noise` | a normal number is added to each value; deviation, of full scale  | 0.03, 0.06, 0.1, 0.15, 0.2    |
| `shot_noise`     | a value becomes a Poisson count of photons; photons at full scale | 300, 100, 40, 20, 10          |
| `impulse_noise`  | values become 0 or 255, half of them each; share of such values   | 0.01, 0.03, 0.06, 0.12, 0.2   |
| `gaussian_blur`  | blurred; deviation, in pixels where the shorter side has 32       | 0.8, 1.1, 1.4, 1.8, 2.4       |
| `contrast`       | values drawn to their channel's mean in the image; factor         | 0.75, 0.55, 0.4, 0.25, 0.15   |
| `brightness`     | a constant is added to all values; of full scale                  | 0.08, 0.16, 0.24, 0.32, 0.4   |
| `pixelate`       | averaged down, enlarged by repetition; side in between, a share   | 0.75, 0.625, 0.5, 0.375, 0.25 |
| `jpeg`           | compressed, chroma subsampled (4:2:0); quality, as libjpeg counts | 50, 30, 20, 12, 7             |

`torchvision.transforms.v2` defines the blur alone as it is here, and takes gigabytes for a wide one, which it does in
two dimensions at once; its other noises, contrast and brightness are others, so nothing is taken from there.

What becomes of an image depends on its pixels, its index in the split, the corruption, the severity and the seed
alone: not on how the split is cut into batches, nor on the device.

Shapes: N images, H W pixels, C = 3 channels, V = 256 values, K counts of photons.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from pipelines.datasets.jpeg import jpeg, nearest

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur"),
    *("contrast", "brightness", "pixelate", "jpeg"),
)
SEVERITIES = (1, 2, 3, 4, 5)

# What the table above says, of severities 1 to 5.
_GAUSSIAN_NOISE = (0.03, 0.06, 0.1, 0.15, 0.2)
_SHOT_NOISE = (300, 100, 40, 20, 10)
_IMPULSE_NOISE = (0.01, 0.03, 0.06, 0.12, 0.2)
_GAUSSIAN_BLUR = (0.8, 1.1, 1.4, 1.8, 2.4)
_CONTRAST = (0.75, 0.55, 0.4, 0.25, 0.15)
_BRIGHTNESS = (0.08, 0.16, 0.24, 0.32, 0.4)
_PIXELATE = (0.75, 0.625, 0.5, 0.375, 0.25)
_JPEG = (50, 30, 20, 12, 7)

_WHITE = 255
_BLUR_SIDE = 32
_BLUR_REACH = 4  # deviations; what lies beyond has 6e-5 of the weight
_VALUES_AT_ONCE = 1 << 22  # bounds the memory: float64, and a few copies of it
_VALUES_PER_COUNT = 8  # Philox4x64 gives 256 bits for each value of its counter


def corrupt(images: Tensor, name: str, severity: int, seed: int, first: int = 0) -> Tensor:
    """Corrupts images; see the table above.

    Args:
        images: uint8 (N, H, W, 3), on any device.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of the noises, 0 <= seed < 2**64; the others draw nothing.
        first: Index in the split of the first of the images, for a split that is corrupted piece by piece.

    Returns:
        uint8 (N, H, W, 3), contiguous, on the same device.

    Raises:
        ValueError: On images of another shape or type, or another name, severity or index.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images must be uint8 (N, H, W, 3), found {images.dtype} {tuple(images.shape)}")
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption {name!r}, only {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1 to 5, found {severity!r}")
    if first < 0:
        raise ValueError(f"the first image's index must not be negative, found {first}")
    corrupted = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    rows = max(1, _VALUES_AT_ONCE // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        chunk = images[start : start + rows]
        exact = _corrupt_chunk(chunk, name, severity, seed, first + start)
        corrupted[start : start + rows] = nearest(exact).clamp_(0, _WHITE)
    return corrupted


def _corrupt_chunk(images: Tensor, name: str, severity: int, seed: int, first: int) -> Tensor:
    """float64 (N, H, W, C), which may leave 0..255."""
    level = severity - 1
    match name:
        case "gaussian_noise":
            uniforms = _uniforms(images, name, severity, seed, first)
            normal = math.sqrt(2) * torch.erfinv(2 * uniforms - 1)
            return images + normal * (_GAUSSIAN_NOISE[level] * _WHITE)
        case "shot_noise":
            return _shot_noise(images, _uniforms(images, name, severity, seed, first), _SHOT_NOISE[level])
        case "impulse_noise":
            uniforms = _uniforms(images, name, severity, seed, first)
            half = _IMPULSE_NOISE[level] / 2
            return torch.where(uniforms < half, 0, torch.where(uniforms > 1 - half, _WHITE, images.double()))
        case "gaussian_blur":
            deviation = _GAUSSIAN_BLUR[level] * min(images.shape[1:3]) / _BLUR_SIDE
            return _resample(images, *(_blurring(side, deviation) for side in images.shape[1:3]))
        case "contrast":
            mean = images.double().mean(dim=(1, 2), keepdim=True)
            return mean + _CONTRAST[level] * (images - mean)
        case "brightness":
            return images.double() + _BRIGHTNESS[level] * _WHITE
        case "pixelate":
            return _resample(images, *(_pixelating(side, _PIXELATE[level]) for side in images.shape[1:3]))
        case "jpeg":
            return jpeg(images.double().permute(0, 3, 1, 2), _JPEG[level]).permute(0, 2, 3, 1)
    raise AssertionError(name)


def _uniforms(images: Tensor, name: str, severity: int, seed: int, first: int) -> Tensor:
    """One number in the open interval (0, 1) for each value: float64 (N, H, W, C), odd multiples of 2**-33.

    Each corruption and severity has a Philox stream of its own, in which each image of the split owns a fixed stretch.
    The words are drawn on the host, so that they are the same for every device.
    """
    stream = hashlib.sha256(f"{name} {severity}".encode()).digest()[:8]
    count = math.prod(images.shape[1:])
    counts_per_image = -(-count // _VALUES_PER_COUNT)
    philox = np.random.Philox(
        key=np.array([seed, int.from_bytes(stream, "little")], dtype=np.uint64),
        counter=np.array([first * counts_per_image, 0, 0, 0], dtype=np.uint64),
    )
    words = philox.random_raw(len(images) * counts_per_image * _VALUES_PER_COUNT // 2)
    halves = words.astype("<u8", copy=False).view("<i4").astype(np.int32, copy=False)
    drawn = torch.from_numpy(halves.reshape(len(images), -1)[:, :count]).to(images.device)
    return (drawn.double().add_(2.0**31 + 0.5) * 2.0**-32).view(images.shape)


def _shot_noise(images: Tensor, uniforms: Tensor, photons: int) -> Tensor:
    """Counts whose distribution function first reaches the uniform number, scaled back to values.

    There are only 256 expectations, hence one table of their distribution functions. Raising row v by v makes one
    ascending sequence of it, which is searched for all values at once.
    """
    reach = math.ceil(photons + 8 * math.sqrt(photons) + 8)  # counts beyond this have less than 2**-33 together
    counts = torch.arange(reach, dtype=torch.float64, device=images.device)
    expected = torch.arange(_WHITE + 1, dtype=torch.float64, device=images.device)[:, None] * (photons / _WHITE)
    table_VK = torch.special.gammaincc(counts + 1, expected)
    table_VK[:, -1] = 1
    table_VK += torch.arange(_WHITE + 1, dtype=torch.float64, device=images.device)[:, None]
    place = torch.searchsorted(table_VK.view(-1), (uniforms + images).view(-1)).view(images.shape)
    return (place - images.long() * reach) * (_WHITE / photons)


def _resample(images: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Applies a matrix (H, H) along the columns of each channel and one (W, W) along its rows."""
    planes = images.double().permute(0, 3, 1, 2)
    down, across = (torch.from_numpy(matrix).to(images.device) for matrix in (rows, columns))
    return (down @ planes @ across.T).permute(0, 2, 3, 1)


def _blurring(side: int, deviation: float) -> np.ndarray:
    """A Gaussian filter as a matrix, float64 (side, side); the image goes on mirrored, its outermost pixels once."""
    reach = min(math.ceil(_BLUR_REACH * deviation), side - 1)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    places = np.abs(np.arange(side)[:, None] + offsets)
    places = np.where(places >= side, 2 * (side - 1) - places, places)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], places), weights / weights.sum())
    return matrix


def _pixelating(side: int, scale: float) -> np.ndarray:
    """Averaging down to fewer pixels by area, then repeating the nearest one, as a matrix: float64 (side, side)."""
    fewer = max(1, round(side * scale))
    edges = np.arange(fewer + 1) * (side / fewer)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    down = np.maximum(overlap, 0) * (fewer / side)
    return down[(2 * pixel + 1) * fewer // (2 * side)]
