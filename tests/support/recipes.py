"""The recipe that most tests of plans and pipelines change a little."""

from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe, ResizedCrop

PATCH = ManifoldMixing("patch", prob=0.5, alpha=2.0, weight_root=3.0, decay_from=11 / 12)
CUTMIX = InputMixing("cutmix", prob=0.5, beta=1.0)

CROPS = ResizedCrop(scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
RESIZED = {"crop_padding": 0, "resized_crop": CROPS}
"""What is changed for them."""


def recipe(**changes) -> Recipe:
    """CIFAR's Cut-MixMo + CutMix on a tenth of the images, unless changed."""
    values = {
        "images": 5000,
        "rows": 64,
        "repetitions": 4,
        "members": 2,
        "image_size": (32, 32),
        "map_size": (32, 32),
        "crop_padding": 4,
        "flip": True,
        "epochs": 300,
        "mixing": PATCH,
        "msda": CUTMIX,
    }
    return Recipe(**(values | changes))


def small_recipe(members: int = 2, msda: str | None = "cutmix", mixing: str = "patch", **changes) -> Recipe:
    """60 images that are not square, in ten steps of an epoch, unless changed."""
    values = {
        "images": 60,
        "rows": 12,
        "repetitions": 2,
        "members": members,
        "image_size": (12, 16),
        "map_size": (12, 16),
        "map_channels": 5,
        "crop_padding": 3,
        "flip": True,
        "epochs": 10,
        "mixing": ManifoldMixing(mixing, 0.5, 2.0, 3.0, 11 / 12) if members > 1 else None,
        "msda": InputMixing(msda, 0.7, 1.0) if msda else None,
    }
    return Recipe(**(values | changes))
