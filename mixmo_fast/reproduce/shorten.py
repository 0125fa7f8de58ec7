"""A shorter run of the same shape: every length of a schedule in proportion.

The published runs take 300 to 1,200 epochs. A run of a tenth of that, with milestones and warm-up at a tenth, too, and
the decay of patch mixing over the last twelfth as ever, is the same experiment in small.
"""

import math

from mixmo_fast.config.schema import Config, ScheduleConfig
from mixmo_fast.errors import ConfigError


def check_scale(scale: float) -> float:
    """The factor itself.

    Raises:
        ConfigError: When it is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:  # not a number is neither
        raise ConfigError(f"--scale: found {scale:g}, allowed: above 0, at most 1 (0.1 trains a tenth of the epochs)")
    return scale


def shorten(config: Config, scale: float) -> Config:
    """The configuration with a schedule of about `scale` of its length; at 1 as it is.

    Epochs are rounded, to at least one. The other lengths follow the epochs that came of it: a milestone at epoch m,
    which is after m - 1 whole epochs, comes after the nearest whole number of epochs, warm-up after the nearest step.
    The base rate keeps at least the first epoch, so no milestone comes before the second; milestones that fall
    together multiply their factors, and those past the end, which would never come, are left out.

    Raises:
        ConfigError: On a factor that is not above 0 and at most 1.
    """
    if check_scale(scale) == 1:
        return config
    schedule = config.schedule
    epochs = max(1, _nearest(schedule.epochs * scale))
    share = epochs / schedule.epochs
    milestones: dict[int, float] = {}
    for epoch, factor in schedule.milestones.items():
        moved = epoch if epoch == 1 else max(2, 1 + _nearest((epoch - 1) * share))
        if epoch <= schedule.epochs and moved <= epochs:
            milestones[moved] = milestones.get(moved, 1.0) * factor
    shorter = ScheduleConfig(epochs=epochs, warmup_steps=_nearest(schedule.warmup_steps * share), milestones=milestones)
    return config.model_copy(update={"schedule": shorter})


def _nearest(number: float) -> int:
    """The nearest whole number, halves up."""
    return math.floor(number + 0.5)
