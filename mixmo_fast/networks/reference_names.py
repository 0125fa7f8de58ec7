"""Names of parameters and buffers in the authors' checkpoints, and in ours: a one-to-one mapping, both ways.

Ours say what a module is (`encoders.0`, `trunk.layer1...`, `heads.0`); theirs are flat, and depend on whether
the network has one member (`conv1`, `fc`) or several (`list_conv1.0`, `list_fc.0`). Entries keep their order,
shapes and values: both networks register the same modules in the same order, so an optimiser's state can
travel with them. Nothing is checked here but names; `load_state_dict(..., strict=True)` finds what is
missing, surplus or misshapen.

Shapes: M members; tensors pass through untouched.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mixmo_fast.networks.kinds import KINDS

_SHORTCUT_HERE = re.compile(r"\.shortcut\.(?=weight$)")
_SHORTCUT_THERE = re.compile(r"\.shortcut\.0\.(?=weight$)")
_ONE_MEMBER = {"conv1": "encoders.0", "fc": "heads.0"}
_SEVERAL_MEMBERS = {"list_conv1": "encoders", "list_fc": "heads"}
_TRUNK_PARTS = ("layer1", "layer2", "layer3", "layer4", "bn1")


def to_reference_name(name: str, members: int) -> str:
    """The authors' name of one of our state-dict entries.

    Args:
        name: ours, such as ``encoders.1.weight`` or ``trunk.layer2.0.shortcut.weight``.
        members: M of the network; with 1 the authors name the only encoder and head differently.

    Returns:
        Theirs, such as ``list_conv1.1.weight`` or ``layer2.0.shortcut.0.weight``.

    Raises:
        ValueError: when the name is not one of ours.
    """
    part, _, rest = name.partition(".")
    if part == "trunk" and rest.partition(".")[0] in _TRUNK_PARTS:
        return _SHORTCUT_HERE.sub(".shortcut.0.", rest)
    for theirs, ours in (_ONE_MEMBER if members == 1 else _SEVERAL_MEMBERS).items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"{name!r} is not an entry of a network of {members} members")


def from_reference_name(name: str) -> str:
    """Our name of an entry of the authors' state dicts.

    Args:
        name: theirs, such as ``conv1.weight``, ``list_fc.1.bias`` or ``layer2.0.shortcut.0.weight``.

    Returns:
        Ours, such as ``encoders.0.weight``, ``heads.1.bias`` or ``trunk.layer2.0.shortcut.weight``.

    Raises:
        ValueError: when the name is not one that the authors' networks use.
    """
    part, dot, rest = name.partition(".")
    if part in _TRUNK_PARTS:
        return "trunk." + _SHORTCUT_THERE.sub(".shortcut.", name)
    ours = (_ONE_MEMBER | _SEVERAL_MEMBERS).get(part)
    if ours is None:
        families = " or ".join(kind.family for kind in KINDS.values())
        raise ValueError(f"{name!r} is not an entry of the authors' {families}")
    return ours + dot + rest


def to_reference(state: Mapping[str, Tensor], members: int) -> dict[str, Tensor]:
    """Renames a state dict of ours to the authors' names, in the same order, sharing the tensors.

    Raises:
        ValueError: when a name is not one of ours.
    """
    return {to_reference_name(name, members): tensor for name, tensor in state.items()}


def from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a state dict of the authors' to our names, in the same order, sharing the tensors.

    Raises:
        ValueError: when a name is not one that the authors' networks use.
    """
    return {from_reference_name(name): tensor for name, tensor in state.items()}
