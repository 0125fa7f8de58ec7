"""Networks of timm and torchvision by name, made MixMo; either package is imported where one of its networks is.

Shapes: M members, K classes, H W pixels of an image, h w pixels of the map behind the encoders.
"""

import difflib
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.networks.kinds import LIBRARIES, LibraryName
from mixmo_fast.networks.mimoify import mimoify
from mixmo_fast.networks.multi import MixMo

_SIZE_KEYWORDS = {"vit_": "image_size", "maxvit": "input_size"}
"""What torchvision's builders call the size of an image, by the beginning of the names of networks that need it."""


def library_network(
    library: LibraryName, name: str, members: int, classes: int, height: int, width: int, pretrained: bool
) -> MixMo:
    """A network of a library with M members.

    Args:
        library: Which.
        name: What it calls the network.
        members: M.
        classes: K.
        height: H.
        width: W.
        pretrained: Whether it starts from the library's weights, which are downloaded; else what is drawn is drawn by
            the global generator, as the library does.

    Raises:
        ConfigError: The library is missing or has no such network or weights, or no MixMo can be made of it.
    """
    row = LIBRARIES[library]
    try:
        package = import_module(row.package)
    except ImportError as error:
        raise ConfigError(f"network.kind: {library} is not installed ({error}); {row.install}") from error
    model = resolve_name(row.builder)(package, name, classes, (height, width), pretrained)
    try:
        return mimoify(model, members, classes=classes, keep_weights=pretrained, image_size=(height, width))
    except MixmoError as error:
        raise ConfigError(f"network.name: no MixMo of {library}'s {name}: {error}") from error


@lru_cache(maxsize=8)
def library_shapes(
    library: LibraryName, name: str, members: int, classes: int, height: int, width: int
) -> tuple[nn.Conv2d, tuple[int, int]]:
    """An encoder of a library's network, on `meta`, and (h, w) of the map behind it; errors as `library_network`."""
    network = library_meta(library, name, members, classes, height, width)
    return network.encoders[0], network.map_size(height, width)


def library_meta(library: LibraryName, name: str, members: int, classes: int, height: int, width: int) -> MixMo:
    """A network of a library without numbers, on `meta`; errors as `library_network`."""
    with torch.device("meta"):
        return library_network(library, name, members, classes, height, width, pretrained=False)


def timm_model(timm: ModuleType, name: str, classes: int, size: tuple[int, int], pretrained: bool) -> nn.Module:
    """One of timm's models; those that are made for one size of image are made for this one."""
    if not timm.is_model(name):
        _refuse("timm", name, timm.list_models())
    try:
        known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:  # a network with weights of a name that there are not
        raise _cannot_build("timm", name, pretrained, error) from error
    ways: list[dict[str, Any]] = [{"img_size": size}, {}] if getattr(known, "fixed_input_size", False) else [{}]
    # With weights it keeps the head that belongs to them, if there is one; another number of classes gets new ones.
    own_head = pretrained and bool(getattr(known, "num_classes", 0))
    outputs: dict[str, Any] = {} if own_head else {"num_classes": classes}
    for number, way in enumerate(ways, start=1):
        try:
            return timm.create_model(name, pretrained=pretrained, **outputs, **way)
        except TypeError as error:  # a model that does not take the size after all
            if number == len(ways):
                raise _cannot_build("timm", name, pretrained, error) from error
        except Exception as error:  # of a model's own code, a hub, or a network
            raise _cannot_build("timm", name, pretrained, error) from error
    raise AssertionError("the last way returns or raises")


def torchvision_model(
    torchvision: ModuleType, name: str, classes: int, size: tuple[int, int], pretrained: bool
) -> nn.Module:
    """One of torchvision's classifiers, likewise; with weights it has the classes of those."""
    models = import_module(f"{torchvision.__name__}.models")
    names = models.list_models(module=models)
    if name not in names:
        _refuse("torchvision", name, names)
    arguments: dict[str, Any] = {"weights": "DEFAULT"} if pretrained else {"weights": None, "num_classes": classes}
    for beginning, keyword in _SIZE_KEYWORDS.items():
        if name.startswith(beginning):
            arguments[keyword] = size[0] if keyword == "image_size" else size
    if name.startswith(("googlenet", "inception")):
        arguments |= {"init_weights": True} if not pretrained else {}
    try:
        return models.get_model(name, **arguments)
    except Exception as error:  # of a model's own code, or a network
        raise _cannot_build("torchvision", name, pretrained, error) from error


def _refuse(library: LibraryName, name: str, names: Sequence[str]) -> None:
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"allowed: one of its {len(names)} names"
    raise ConfigError(f"network.name: {library} has no network {name!r}; {hint}")


def _cannot_build(library: LibraryName, name: str, pretrained: bool, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if pretrained:
        return ConfigError(f"network.pretrained: cannot load the weights of {library}'s {name}: {reason}")
    return ConfigError(f"network.name: cannot build {library}'s {name}: {reason}")
