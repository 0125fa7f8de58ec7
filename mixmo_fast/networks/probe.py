"""Which layers of a model stand where an image enters and where its logits leave, found by running it on shapes alone.

Shapes: N rows, H W pixels, F features, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from mixmo_fast.errors import MixmoError
from mixmo_fast.networks.multi import IMAGE_CHANNELS


@dataclass(frozen=True)
class Layers:
    """The two ends of a model.

    Attributes:
        stem: Dotted name of the convolution that reads the image.
        head: Dotted name of the linear layer whose output the model returns.
    """

    stem: str
    head: str


@dataclass(frozen=True)
class _Call:
    """A layer at work: its name, its input, and its output."""

    name: str
    read: Any
    gave: Any


def find_layers(model: nn.Module, stem: str | None, head: str | None, image_size: tuple[int, int]) -> Layers:
    """Finds the two layers, or checks those that are named.

    Args:
        model: Of any device; nothing of it is computed or changed.
        stem: Dotted name that the stem has to have; None: any.
        head: Likewise of the head.
        image_size: (H, W) of an image that the model can take.

    Raises:
        MixmoError: In a line, when there are none, several, or others than named; when M of one cannot be computed as
            one, or a layer's weights are not its alone.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise MixmoError(
            f"mimoify: found a {type(model).__name__}, allowed: an nn.Module, neither scripted nor compiled"
        )
    if lazy := [name for name, parameter in model.named_parameters() if is_lazy(parameter)]:
        raise MixmoError(f"mimoify: {lazy[0]} has no shape yet; allowed: a model that was called once")
    for argument, name, kind in (("stem", stem, nn.Conv2d), ("head", head, nn.Linear)):
        layers = [layer for layer, module in model.named_modules() if isinstance(module, kind)]
        if not layers:
            raise MixmoError(f"mimoify: {argument}: the model has no nn.{kind.__name__}")
        if name is not None and name not in layers:
            raise MixmoError(f"mimoify: {argument}: found {name!r}, allowed: {_some(layers)}")
    image, logits, calls = _run(model, image_size)
    found = Layers(_stem(model, stem, image, calls), _head(model, head, logits, calls))
    for name in (found.stem, found.head):
        _require_own(model, name)
    return found


def _run(model: nn.Module, image_size: tuple[int, int]) -> tuple[Tensor, Any, list[_Call]]:
    """Two images of no content, what the model makes of them in training, and the calls of layers on the way."""
    calls: list[_Call] = []
    image = torch.empty(2, IMAGE_CHANNELS, *image_size, device="meta", dtype=_dtype(model))
    shapes = {name: tensor.to("meta") for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    with _training_mode(model), _listens(model, calls), torch.no_grad():
        try:
            logits = functional_call(model, shapes, (image,))
        except Exception as error:  # whatever a model's own code raises
            reason = " ".join(str(error).split())[:150] or type(error).__name__
            raise MixmoError(
                f"mimoify: the model cannot be run on images of {IMAGE_CHANNELS} x {image_size[0]} x {image_size[1]} "
                f"(image_size=) without computing: {reason}"
            ) from error
    return image, logits, calls


def _dtype(model: nn.Module) -> torch.dtype:
    return next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    """In which a model may return more than in evaluation; each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _listens(model: nn.Module, calls: list[_Call]) -> Iterator[None]:
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def note(_: nn.Module, arguments: tuple, gave: Any, name: str = name) -> None:
                calls.append(_Call(name, arguments[0] if arguments else None, gave))

            hooks.append(module.register_forward_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stem(model: nn.Module, wanted: str | None, image: Tensor, calls: list[_Call]) -> str:
    convolutions = [call for call in calls if isinstance(model.get_submodule(call.name), nn.Conv2d)]
    readers = [call.name for call in convolutions if call.read is image]
    if not convolutions:
        raise MixmoError("mimoify: stem: the model calls none of its convolutions")
    if not readers:
        raise MixmoError(
            f"mimoify: stem: the first convolution, {convolutions[0].name}, does not read the image itself but what "
            "the model makes of it before; allowed: a model whose images are prepared outside of it"
        )
    if len(readers) > 1:
        raise MixmoError(f"mimoify: stem: {len(readers)} calls read the image ({_some(readers)}), allowed: one")
    if wanted not in (None, readers[0]):
        raise MixmoError(f"mimoify: stem: found {wanted}, allowed: {readers[0]}, which reads the image")
    if sum(call.name == readers[0] for call in convolutions) > 1:
        raise MixmoError(f"mimoify: stem: {readers[0]} is called more than once")
    stem = model.get_submodule(readers[0])
    assert isinstance(stem, nn.Conv2d)
    if type(stem) is not nn.Conv2d or stem.groups != 1 or stem.padding_mode != "zeros":
        raise MixmoError(
            f"mimoify: stem: found {readers[0]}, a {type(stem).__name__} of {stem.groups} groups that pads by "
            f"{stem.padding_mode}, allowed: nn.Conv2d itself, one group, zeros"
        )
    return readers[0]


def _head(model: nn.Module, wanted: str | None, logits: Any, calls: list[_Call]) -> str:
    linear = [call for call in calls if isinstance(model.get_submodule(call.name), nn.Linear)]
    if not linear:
        raise MixmoError("mimoify: head: the model calls none of its linear layers")
    last = linear[-1].name
    if not isinstance(logits, Tensor):
        given = logits.values() if isinstance(logits, dict) else logits if isinstance(logits, tuple | list) else ()
        makers = [call.name for call in linear if any(call.gave is one for one in given)]
        raise MixmoError(
            f"mimoify: head: in training the model returns a {type(logits).__name__} (of {_some(makers or [last])}), "
            "allowed: one tensor of logits"
        )
    makers = [call.name for call in linear if call.gave is logits]
    if not makers:
        raise MixmoError(
            f"mimoify: head: the model does not return what its last linear layer gives, {last}, but what it makes of "
            "that; allowed: logits of a linear layer"
        )
    if wanted not in (None, makers[0]):
        raise MixmoError(f"mimoify: head: found {wanted}, allowed: {makers[0]}, whose output the model returns")
    if sum(call.name == makers[0] for call in linear) > 1:
        raise MixmoError(f"mimoify: head: {makers[0]} is called more than once")
    if logits.ndim != 2:
        raise MixmoError(f"mimoify: head: {makers[0]} gives {tuple(logits.shape)} for 2 images, allowed: N x K")
    return makers[0]


def _require_own(model: nn.Module, name: str) -> None:
    """Refuses a layer whose weights another one has, too."""
    layer = model.get_submodule(name)
    own = {id(parameter) for parameter in layer.parameters()}
    for other, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in own and other.rpartition(".")[0] != name:
            raise MixmoError(f"mimoify: {name} shares its weights with {other}, allowed: weights of its own")


def _some(names: list[str]) -> str:
    """The first names, with how many more there are."""
    shown = list(dict.fromkeys(names))
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more
