"""`mixmo-fast checkpoint`: a run's checkpoint in the form of the authors' implementation, for their scripts to read."""

from pathlib import Path

from mixmo_fast.config.load import parse_config
from mixmo_fast.config.schema import LibraryNetworkConfig
from mixmo_fast.errors import CheckpointError
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.run.target import checkpoint_path, run_of
from mixmo_fast.training.checkpoint import load_checkpoint
from mixmo_fast.training.reference_checkpoint import is_reference_checkpoint, save_reference_checkpoint


def export_checkpoint(target: Path, which: str, runs: Path, out: Path, force: bool = False) -> tuple[str, ...]:
    """Writes a checkpoint in the authors' form, whole or not at all; see `save_reference_checkpoint`.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        which: `last`, `best`, an epoch, or a checkpoint's path.
        runs: Where the run folder of a configuration file is.
        out: The file to write.
        force: Whether it may be replaced.

    Returns:
        Lines that say what was written, and what their configuration has to hold to train on with it.

    Raises:
        MixmoError: When there is no such checkpoint, it is in that form already, or the file is there or cannot be
            written.
    """
    paths = run_of(target, runs)
    path = checkpoint_path(which, paths, target)
    if is_reference_checkpoint(path):
        raise CheckpointError(f"{path}: found mixmo-pytorch's form already, allowed: a checkpoint of this program")
    if out.exists() and (not force or out.resolve() in {one.resolve() for one in (path, *paths.all())}):
        rather = "another name, for this is a checkpoint of the run" if force else "another name, or --force"
        raise CheckpointError(f"{out}: exists already; allowed: {rather}")
    checkpoint = load_checkpoint(path)
    config = parse_config(checkpoint.config, str(path))
    network = config.network
    if isinstance(network, LibraryNetworkConfig):
        raise CheckpointError(f"{path}: found network.kind {network.kind}, which mixmo-pytorch has not")
    save_reference_checkpoint(checkpoint, config, out)
    lines = [f"wrote {out}: epoch {checkpoint.epoch} of {path} in mixmo-pytorch's form"]
    decay = config.optimizer.weight_decay
    if KINDS[network.kind].authors_decay_in_loss and decay:
        lines.append(
            f"the run's weight_decay of {decay:g} is the optimiser's no longer: there it is l2_reg: {decay / 2:g} of "
            "the loss"
        )
    return tuple(lines)
