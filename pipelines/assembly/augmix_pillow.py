"""AugMix by Pillow, one image at a time: what the `reference` pipeline does, and what `augmix.py` is held to.

Shapes: H W pixels, C = 3 channels, 3 chains, 4 operations of one at most.
"""

import math

from PIL import Image, ImageOps
from torch import Tensor

from mixmo_fast.mixing.augmix import (
    NO_OPERATION,
    POSTERIZE_BITS,
    ROTATE_DEGREES,
    SHEAR,
    SOLARIZE_FROM,
    TRANSLATE_SHARE,
    AugmixPlan,
    Operation,
)


def apply_operation(image: Image.Image, operation: Operation, sign: int) -> Image.Image:
    """An image after one operation; what comes from outside of it is black.

    Args:
        image: Of any mode that the operation knows; geometric ones know all, and move whole pixels.
        operation: Which.
        sign: 1 or -1, which way a rotation, shear or translation goes; the others have only one.
    """
    width, height = image.size
    matrix: tuple[float, ...]
    match operation:
        case Operation.IDENTITY:
            return image
        case Operation.EQUALIZE:
            return ImageOps.equalize(image)
        case Operation.POSTERIZE:
            return ImageOps.posterize(image, POSTERIZE_BITS)
        case Operation.SOLARIZE:
            return ImageOps.solarize(image, math.ceil(SOLARIZE_FROM))
        case Operation.INVERT:
            return ImageOps.invert(image)
        case Operation.ROTATE:
            return image.rotate(sign * ROTATE_DEGREES, Image.Resampling.NEAREST)
        case Operation.SHEAR_X:
            matrix = (1, sign * SHEAR, 0, 0, 1, 0)
        case Operation.SHEAR_Y:
            matrix = (1, 0, 0, sign * SHEAR, 1, 0)
        case Operation.TRANSLATE_X:
            matrix = (1, 0, sign * TRANSLATE_SHARE * width, 0, 1, 0)
        case Operation.TRANSLATE_Y:
            matrix = (1, 0, 0, 0, 1, sign * TRANSLATE_SHARE * height)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def augment(image: Image.Image, plan: AugmixPlan, mean: list[float], std: list[float]) -> Tensor:
    """The transform of one image: float32 (C, H, W), normalised.

    Args:
        image: RGB, after crop and flip.
        plan: Of this image: its arrays have no leading axes.
        mean: (C,), subtracted from the image in 0..1.
        std: (C,), what the difference is divided by.
    """

    import torchvision.transforms.functional as TF  # imported here: it takes a second, and others need this file, too

    def normalised(image: Image.Image) -> Tensor:
        return TF.normalize(TF.to_tensor(image), mean, std, inplace=True)

    weights, blend = plan.chain_weight.tolist(), float(plan.blend)
    mixture = 0
    for operations, signs, weight in zip(plan.operation.tolist(), plan.sign.tolist(), weights, strict=True):
        chain = image
        for operation, sign in zip(operations, signs, strict=True):
            if operation != NO_OPERATION:
                chain = apply_operation(chain, Operation(operation), sign)
        mixture = mixture + weight * normalised(chain)
    return (1 - blend) * normalised(image) + blend * mixture
