"""Options by the names that other programs have for them: what is understood as it is, and what one writes instead."""

from collections.abc import Mapping, Sequence

_ALSO = {
    "temperature-scaling": ("tempscale", "tempscal"),
    "robustness": ("corruptions",),
    "out": ("output",),
}
"""What an option goes by, too."""

_KEYS = {
    "batch-size": "batch.rows",
    "bs": "batch.rows",
    "learning-rate": "optimizer.lr",
    "lr0": "optimizer.lr",
    "seed": "seed",
    "wd": "optimizer.weight_decay",
    "model": "network.kind",
    "arch": "network.kind",
    "amp": "step.precision",
    "num-epochs": "schedule.epochs",
    "dataset": "data.dataset",
}
"""Keys of the configuration by what other programs call them; most are also called by what they end with."""

_INSTEAD: Mapping[str, Mapping[str, str]] = {
    "gpu": {"--device": "write --device cuda, after CUDA_VISIBLE_DEVICES=N"},
    "gpus": {"--device": "write --device cuda, after CUDA_VISIBLE_DEVICES=N,..."},
    "resume": {
        "--from-scratch": "a run is continued by the command that started it",
        "--retries": "a reproduction is continued by the command that started it",
    },
    "output": {
        "--from-scratch": "a run is in the folder --runs, by its --name",
        "--no-verify": "a data set goes into the folder --data",
    },
    "seed": {"--seeds": "write --seeds N,..."},
    "project": {"--runs": "write --runs FOLDER"},
    "name": {"--checkpoint": "name the run by its folder, in place of the configuration's file"},
    "num-workers": {"--workers": "write --workers N"},
    "data-dir": {"--data": "write --data FOLDER"},
    "initial-checkpoint": {"--init": "write --init FILE"},
    "dataset": {"--on": "write --on DATASET"},
    "model": {"--checkpoint": "write --checkpoint FILE"},
    "weights": {"--init": "write --init FILE", "--checkpoint": "write --checkpoint FILE"},
}
"""Other programs' options by what the command has in their place, and what to do."""


def todays(word: str) -> str:
    """The spelling of an option that the parser knows, of `from_scratch` or `tempscal`; with its hyphens or without."""
    hyphens = word.removesuffix(word.lstrip("-"))
    bare = word.removeprefix(hyphens).replace("_", "-")
    return hyphens + next((name for name, others in _ALSO.items() if bare in others), bare)


def other_spellings(names: Sequence[str]) -> Sequence[str]:
    """What else is understood as an option of these names."""
    return next((others for name, others in _ALSO.items() if f"--{name}" in names), ())


def instead_of(word: str, options: Sequence[str], value: str | None) -> str | None:
    """What to do instead of giving an option that a command does not have; None: nothing is known.

    Args:
        word: Its name, without hyphens in front.
        options: Those of the command.
        value: What was given with it.
    """
    word = word.replace("_", "-")
    known = _INSTEAD.get(word, {})
    phrase = next((said for option, said in known.items() if option in options), None)
    key = None if phrase else _key_of(word)
    if key and "--set" in options:
        return f"write --set {key}={value or 'VALUE'}"
    if key and "--runs" in options:
        return f"it is {key} of the configuration, which `train --set` changes"
    return phrase


def _key_of(word: str) -> str | None:
    """The configuration's key that an option of another program stands for: `lr`, `batch-size`, `epochs`."""
    from mixmo_fast.config.words import known_keys

    if word in _KEYS:
        return _KEYS[word]
    same = [key for key in known_keys() if "." in key and word in (key, key.rpartition(".")[2].replace("_", "-"))]
    return same[0] if len(same) == 1 else None
