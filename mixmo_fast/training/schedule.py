"""The learning rate as a function of epoch and step; nothing is accumulated, so any step can be asked for alone."""

from mixmo_fast.config.schema import Config, NetworkConfig
from mixmo_fast.networks.kinds import KINDS


def rate_rows(config: Config) -> int:
    """Rows a step that the configured rate is meant for, where it is scaled: as configured, or the paper's."""
    if config.optimizer.lr_rows is not None:
        return config.optimizer.lr_rows
    network = config.network
    assert isinstance(network, NetworkConfig)  # for another, the configuration has to say them where they are used
    return KINDS[network.kind].published_rows


def base_rate(config: Config) -> float:
    """The rate after the warm-up: as configured, or in proportion to the rows of a step where that is asked for."""
    optimizer = config.optimizer
    if optimizer.lr_scaling == "none":
        return optimizer.lr
    return optimizer.lr * config.batch.rows / rate_rows(config)


def learning_rate(config: Config, steps_per_epoch: int, epoch: int, step: int) -> float:
    """The rate in force at a step, as in the authors' implementation.

    With a warm-up of W steps, the rate at step s of the whole run, counted from 0, is scaled by min(1, (s + 1) / W). A
    milestone's factor applies from the start of its epoch on, for good.

    Args:
        config: Of the run.
        steps_per_epoch: Steps of an epoch.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch.
    """
    rate, warmup_steps = base_rate(config), config.schedule.warmup_steps
    for milestone, factor in sorted(config.schedule.milestones.items()):
        if epoch >= milestone:
            rate *= factor
    taken = (epoch - 1) * steps_per_epoch + step + 1
    return rate if taken >= warmup_steps else rate * taken / warmup_steps
