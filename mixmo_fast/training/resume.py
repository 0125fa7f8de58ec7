"""Which checkpoint a run goes on from, and whether it may: only with the same science, or a longer schedule.

A run may be made longer where its epochs so far are what they would have been in the longer one. All randomness is
keyed by seed and epoch, so what depends on the length E of a run is its schedule, and the probability of patches, which
falls towards the end.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import SCIENCE, Config
from mixmo_fast.config.words import differences
from mixmo_fast.errors import CheckpointError, ConfigError
from mixmo_fast.mixing.ratios import patch_probability
from mixmo_fast.runfolder.names import CheckpointPaths
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint


def checkpoint_to_continue(config: Config, paths: CheckpointPaths, extend: bool = False) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run.

    That is `last`; where it is missing (the process died before it had a first one, or a person removed it), the
    newest of the others, each of which is a whole state, too.

    Args:
        config: What is to be trained now.
        paths: Of the run folder.
        extend: Whether `schedule.epochs` may be more than the run's.

    Raises:
        CheckpointError: When it cannot be read, or there is none to extend.
        ConfigError: When the run has other settings, or an extension would have changed its epochs so far.
    """
    checkpoint = _latest(paths)
    if checkpoint is None:
        if extend:
            raise CheckpointError(f"{paths.folder} holds no run to extend; leave out --extend to start one")
        return None
    kept = parse_config(checkpoint.config, str(paths.folder))
    differing = [section for section in SCIENCE if getattr(config, section) != getattr(kept, section)]
    if differing == ["schedule"] and (extend or config.schedule.epochs > kept.schedule.epochs):
        _check_extension(kept, config, checkpoint.epoch, paths, extend)
    elif differing:
        section = differing[0]
        raise ConfigError(
            f"{paths.folder} holds a run with other settings "
            f"({differences(section, getattr(kept, section), getattr(config, section))}); use another --name, or "
            "--from-scratch to start it again"
        )
    return checkpoint


def _latest(paths: CheckpointPaths) -> Checkpoint | None:
    if not paths.last.exists():
        found = [load_checkpoint(path) for path in paths.all()]
        return max(found, key=lambda one: one.epoch, default=None)
    try:
        return load_checkpoint(paths.last)
    except CheckpointError as error:
        newest = _newest_whole(path for path in paths.all() if path != paths.last)
        rather = f"remove it to continue from {newest[0].name}, of epoch {newest[1]}, or use" if newest else "use"
        raise CheckpointError(f"{error}; {rather} --from-scratch") from error


def _newest_whole(paths: Iterable[Path]) -> tuple[Path, int] | None:
    """The checkpoint of the latest epoch among those that can be read, and that epoch."""
    whole = []
    for path in paths:
        with suppress(CheckpointError):
            whole.append((path, load_checkpoint(path).epoch))
    return max(whole, key=lambda one: one[1], default=None)


def _check_extension(kept: Config, config: Config, done: int, paths: CheckpointPaths, extend: bool) -> None:
    """Refuses an extension that was not asked for, that is none, or that the epochs so far do not fit."""
    before, now = kept.schedule.epochs, config.schedule.epochs
    if now <= before:
        raise ConfigError(
            f"--extend: {paths.folder} is a run of {before} epochs, now {now} are asked for; allowed: more"
        )
    difference = first_difference(kept, config, done)
    anew = f"--init {paths.last} with another --name starts a new run from its weights"
    if extend and difference:
        raise ConfigError(f"{paths.folder}: --extend: its epochs so far would have been others ({difference}); {anew}")
    if not extend:
        state = f"is complete at {done} epochs" if done >= before else f"holds {done} of {before} epochs"
        here = f"--extend cannot ({difference})" if difference else "add --extend to go on in this folder"
        raise ConfigError(
            f"{paths.folder} {state}, with other settings (schedule.epochs: it has {before}, now {now}): {here}, {anew}"
        )


def first_difference(kept: Config, config: Config, done: int) -> str | None:
    """What would have been otherwise in the epochs done, under another schedule; None: nothing.

    (Only when the test images are looked at may differ: with `evaluation.every_epochs`, a run is also evaluated after
    the epoch that was to be its last.)

    Args:
        kept: What they were trained with.
        config: The same but for `schedule`.
        done: Epochs done, counted from 1.
    """
    before, now = kept.schedule, config.schedule
    if before.warmup_steps != now.warmup_steps:
        return f"schedule.warmup_steps: {before.warmup_steps} then, {now.warmup_steps} now"
    for epoch in range(1, done + 1):
        factors = [schedule.milestones.get(epoch, 1.0) for schedule in (before, now)]
        if factors[0] != factors[1]:
            return f"epoch {epoch}: learning rate times {factors[0]:g} then, times {factors[1]:g} now"
        chances = [_patch_probability(one, epoch) for one in (kept, config)]
        if chances[0] != chances[1]:
            return f"epoch {epoch}: mixing probability {chances[0]:g} then, {chances[1]:g} now"
    return None


def _patch_probability(config: Config, epoch: int) -> float | None:
    mixing = config.mixing
    if mixing is None or mixing.method == mixing.replacement:  # whichever is drawn
        return None
    return patch_probability(mixing.prob, mixing.decay_from, epoch, config.schedule.epochs)
