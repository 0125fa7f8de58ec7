"""The learning rate as a function of epoch and step; nothing is accumulated, so any step can be asked for alone."""

from collections.abc import Mapping

from mixmo_fast.config.schema import Config

# Rows a step in the paper's runs with each kind of network.
_PUBLISHED_ROWS = {"wide_resnet": 64, "preact_resnet": 100}


def base_rate(config: Config) -> float:
    """The rate after the warm-up: as configured, or in proportion to the rows of a step where that is asked for."""
    optimizer = config.optimizer
    if optimizer.lr_scaling == "none":
        return optimizer.lr
    return optimizer.lr * config.batch.rows / (optimizer.lr_rows or _PUBLISHED_ROWS[config.network.kind])


def learning_rate(
    base: float,
    warmup_steps: int,
    milestones: Mapping[int, float],
    steps_per_epoch: int,
    epoch: int,
    step: int,
) -> float:
    """The rate in force at a step, as in the authors' implementation.

    Args:
        base: Rate after the warm-up.
        warmup_steps: W; at step s of the whole run, counted from 0, the rate is scaled by min(1, (s + 1) / W).
        milestones: Epoch (from 1) -> factor that applies from the start of that epoch on, for good.
        steps_per_epoch: Steps of an epoch.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch.
    """
    rate = base
    for milestone, factor in sorted(milestones.items()):
        if epoch >= milestone:
            rate *= factor
    taken = (epoch - 1) * steps_per_epoch + step + 1
    return rate if taken >= warmup_steps else rate * taken / warmup_steps
