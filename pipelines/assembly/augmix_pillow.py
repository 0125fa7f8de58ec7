"""AugMix by Pillow, one image at a time: what the `reference` pipeline does, and what `augmix.py` is held to.

Shapes: H W pixels, C = 3 channels, 3 chains, 4 operations of one at most.
"""

import torchvision.transforms.functional as TF
from PIL import Image, ImageOps
from torch import Tensor

from mixmo_fast.mixing.augmix import NO_OPERATION, AugmixPlan, Operation

# What the authors' implementation makes of severity 3 on AugMix's scales of 30: constants, never drawn.
_ANGLE = 3.0
_SHEAR = 0.03
_SHIFT = 0.045
_THRESHOLD = 25.6
_BITS = 4


def apply_operation(image: Image.Image, operation: Operation, sign: int) -> Image.Image:
    """An image after one operation; what comes from outside of it is black.

    Args:
        image: Of any mode that the operation knows; geometric ones know all, and move whole pixels.
        operation: Which.
        sign: 1 or -1, which way a rotation, shear or translation goes; the others have only one.
    """
    width, height = image.size
    match operation:
        case Operation.IDENTITY:
            return image
        case Operation.EQUALIZE:
            return ImageOps.equalize(image)
        case Operation.POSTERIZE:
            return ImageOps.posterize(image, _BITS)
        case Operation.SOLARIZE:
            return ImageOps.solarize(image, _THRESHOLD)
        case Operation.INVERT:
            return ImageOps.invert(image)
        case Operation.ROTATE:
            return image.rotate(sign * _ANGLE, Image.Resampling.NEAREST)
        case Operation.SHEAR_X:
            matrix = (1, sign * _SHEAR, 0, 0, 1, 0)
        case Operation.SHEAR_Y:
            matrix = (1, 0, 0, sign * _SHEAR, 1, 0)
        case Operation.TRANSLATE_X:
            matrix = (1, 0, sign * _SHIFT * width, 0, 1, 0)
        case Operation.TRANSLATE_Y:
            matrix = (1, 0, 0, 0, 1, sign * _SHIFT * height)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def augment(image: Image.Image, plan: AugmixPlan, mean: list[float], std: list[float]) -> Tensor:
    """The transform of one image: float32 (C, H, W), normalised.

    Args:
        image: RGB, after crop and flip.
        plan: Of this image: its arrays have no leading axes.
        mean: (C,), subtracted from the image in 0..1.
        std: (C,), what the difference is divided by.
    """

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
