"""Where a configuration stands in the paper's tables, and how it differs from what its name says.

Values and words only; there are no arrays here.
"""

import json

from mixmo_fast.config.schema import Config, LibraryNetworkConfig
from mixmo_fast.config.titles import AUGMENTATIONS, METHODS, augmentation_of, method_of, network_title
from mixmo_fast.networks.kinds import KINDS
from mixmo_fast.reproduce.targets import COMPARABLE
from pipelines.datasets.catalog import DATASETS

_SETTINGS = (*COMPARABLE, "schedule")  # what a run computes, but for its seed
_TABLES = ("cifar100", "cifar10", "tinyimagenet", "fashion_mnist")  # in the paper's order, then others
_TITLES = {"cifar100": "CIFAR-100", "tinyimagenet": "Tiny ImageNet-200"}  # the paper's words, where they differ


def settings_of(config: Config) -> str:
    """All that decides what a run computes, but its seed."""
    return json.dumps(config.model_dump(mode="json", include=set(_SETTINGS)), sort_keys=True)


def changes(reference: Config, config: Config, but: tuple[str, ...]) -> tuple[str, ...]:
    """Settings with other values, `network.width: 10 -> 1` each, save those whose key begins with one of `but`."""
    old, new = (_flat(one.model_dump(mode="json", include=set(_SETTINGS))) for one in (reference, config))
    keys = [key for key in dict.fromkeys((*old, *new)) if not key.startswith(but)]
    return tuple(f"{key}: {_word(old, key)} -> {_word(new, key)}" for key in keys if old.get(key) != new.get(key))


def table_of(config: Config) -> str:
    """The title of the table that a configuration belongs to, in the paper's words."""
    name, network = config.data.dataset, config.network
    if isinstance(network, LibraryNetworkConfig):
        kind = network_title(config)
    else:
        kind = KINDS[network.kind].table_title.format(depth=network.depth, width=network.width)
    title = _TITLES.get(name) or (DATASETS[name].title if name in DATASETS else name)
    return f"{title} with {kind}"


def order_of(name: str, config: Config) -> tuple:
    """Where a row stands: as in the paper's tables, then by name."""
    dataset, network, method = config.data.dataset, config.network, method_of(config)
    augmentation = augmentation_of(config)
    size = (0, 0) if isinstance(network, LibraryNetworkConfig) else (network.depth, network.width)
    return (
        _TABLES.index(dataset) if dataset in _TABLES else len(_TABLES),
        *(dataset, network.kind, *size, network_title(config)),
        *(method is not None, _rank(augmentation, AUGMENTATIONS), _rank(method, METHODS)),
        *(network.members, name, config.schedule.epochs, settings_of(config)),
    )


def _rank(word: str | None, words: tuple[str, ...]) -> int:
    """Nothing first, then the words in their order, then others."""
    return 0 if word is None else 1 + (words.index(word) if word in words else len(words))


def _flat(settings: dict) -> dict[str, object]:
    """`network.width: 10` and so on; a section that is off is its name alone, as null."""
    flat: dict[str, object] = {}
    for section, values in settings.items():
        if values is not None:
            flat |= {f"{section}.{key}": value for key, value in values.items()}
    return flat


def _word(settings: dict[str, object], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "none"
