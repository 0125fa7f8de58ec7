"""What JPEG compression does to images, as tensor operations: for measuring robustness, not for making files.

Follows the lossy half of baseline JPEG (ITU-T T.81) in the JFIF form that the libraries write by default: YCbCr, 4:2:0
chroma subsampling, 8 x 8 cosine transform, the example quantisation tables of its Annex K scaled by the usual quality
rule, and on the way back linear interpolation of chroma. Entropy coding loses nothing, so it is left out. Whole
batches go through each step at once, and transforms and resampling are small matrix products.

Shapes: N images, C = 3 channels, H W pixels, h w samples of a plane: whole blocks, for chroma of half as many samples.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 8

# ITU-T T.81, Annex K, tables K.1 and K.2, row by row: vertical frequency down, horizontal frequency across.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
)

# JFIF 1.02: Y, Cb, Cr out of R, G, B, all 0..255; 128 is then added to the chroma.
_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)


def jpeg(pixels_NCHW: Tensor, quality: int) -> Tensor:
    """Images as they come back from JPEG files.

    Args:
        pixels_NCHW: float64 (N, 3, H, W), red, green and blue, whole numbers 0..255; any H and W.
        quality: 1 to 100, as libjpeg and Pillow count it.

    Returns:
        float64 of the same shape, not yet rounded or clipped; what is computed in between is rounded where the
        format stores whole numbers.
    """
    height, width = pixels_NCHW.shape[2:]
    matrix = torch.tensor(_TO_YCBCR, dtype=torch.float64)
    to_ycbcr, to_rgb = matrix.to(pixels_NCHW), matrix.inverse().to(pixels_NCHW)  # inverted on the host: it is small
    # Whole blocks of both planes, by repeating the edge. Below the image chroma is repeated once it is subsampled, as
    # libjpeg does, which goes through an image by rows.
    padded = functional.pad(pixels_NCHW, (0, -width % (2 * _BLOCK), 0, height % 2), mode="replicate")
    ycc = nearest(torch.einsum("ij,njhw->nihw", to_ycbcr, padded))
    chroma = _compress(_pad_below(_halve(ycc[:, 1:].clamp(max=127))), quantisation_table(quality, chroma=True))
    luma = _compress(_pad_below(ycc[:, :1] - 128), quantisation_table(quality, chroma=False))
    # What lies beyond the image is padding; a decoder interpolates between the samples of the image alone.
    chroma = chroma[:, :, : math.ceil(height / 2), : math.ceil(width / 2)]
    rows, columns = (_doubling(side, pixels_NCHW) for side in chroma.shape[2:])
    chroma = (rows @ chroma @ columns.T)[:, :, :height, :width]
    planes = torch.cat([luma[:, :, :height, :width] + 128, chroma], dim=1)
    return torch.einsum("ij,njhw->nihw", to_rgb, planes)


def quantisation_table(quality: int, chroma: bool) -> tuple[int, ...]:
    """The 64 steps of a quality, row by row: libjpeg's rule, which leaves the tables as they are at 50.

    Raises:
        ValueError: For a quality outside 1..100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, found {quality}")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((step * percent + 50) // 100, 1), 255) for step in (_CHROMINANCE if chroma else _LUMINANCE))


def nearest(values: Tensor) -> Tensor:
    """Values rounded to whole numbers: halves up, and whatever float64 makes of a half too.

    Means and cosine transforms of small numbers are often halves. What becomes of one must not hang on the order in
    which a device adds, the more so as a frequency then moves by a whole step.

    Args:
        values: float64, any shape; their errors must be far below 1e-9.
    """
    return (values + (0.5 + 1e-9)).floor()


def _pad_below(plane_NChw: Tensor) -> Tensor:
    return functional.pad(plane_NChw, (0, 0, 0, -plane_NChw.shape[2] % _BLOCK), mode="replicate")


def _halve(plane_NChw: Tensor) -> Tensor:
    """Means of 2 x 2 samples, as whole numbers; halves are rounded down and up in turn along a row, as in libjpeg."""
    means = functional.avg_pool2d(plane_NChw, 2)
    bias = torch.arange(means.shape[3], device=means.device) % 2 * 0.25 + 0.25
    return (means + bias).floor()


def _compress(plane_NChw: Tensor, table: tuple[int, ...]) -> Tensor:
    """A plane of samples around 0 after the cosine transform of its blocks, rounding to the table's steps, and back."""
    height, width = plane_NChw.shape[2:]
    transform = _cosines(plane_NChw)
    steps = plane_NChw.new_tensor(table).view(_BLOCK, _BLOCK)
    blocks = plane_NChw.unflatten(3, (-1, _BLOCK)).unflatten(2, (-1, _BLOCK)).transpose(3, 4)
    frequencies = transform @ blocks @ transform.T
    frequencies = frequencies.sign() * nearest(frequencies.abs() / steps) * steps
    blocks = transform.T @ frequencies @ transform
    samples = blocks.transpose(3, 4).reshape(*plane_NChw.shape[:2], height, width)
    return nearest(samples).clamp(-128, 127)


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal cosine transform of 8 samples, (8, 8): row k is frequency k."""
    k = torch.arange(_BLOCK, dtype=like.dtype, device=like.device)
    matrix = torch.cos(math.pi / _BLOCK * (k + 0.5) * k[:, None]) * math.sqrt(2 / _BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def _doubling(side: int, like: Tensor) -> Tensor:
    """Linear interpolation of `side` samples at twice as many places, (2 * side, side); the ends repeat.

    A sample of subsampled chroma sits in the middle of two pixels, so each pixel is a quarter of the distance away
    from the nearer sample: three quarters of that one and one of the next.
    """
    matrix = torch.zeros(2 * side, side, dtype=like.dtype, device=like.device)
    pixel = torch.arange(2 * side, device=like.device)
    nearer = pixel // 2
    farther = (nearer + 2 * (pixel % 2) - 1).clamp(0, side - 1)
    matrix[pixel, nearer] += 0.75
    matrix[pixel, farther] += 0.25
    return matrix
