"""Anybody's model as a MixMo: its first convolution becomes M encoders, its last linear layer M heads.

What lies between becomes the trunk, with the weights it has. Both layers are found by running the model once on
shapes alone: the convolution that reads the image itself, and the linear layer whose output the model returns.

Shapes: N rows, M members, C image channels, H W pixels, h w pixels of the map behind the stem, F features, K classes.
"""

import copy

import torch
from torch import Tensor, nn

from mixmo_fast.errors import MixmoError
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo, map_size
from mixmo_fast.networks.probe import Layers, find_layers


def mimoify(
    model: nn.Module,
    members: int,
    *,
    stem: str | None = None,
    head: str | None = None,
    classes: int | None = None,
    keep_weights: bool = True,
    image_size: int | tuple[int, int] = 224,
) -> MixMo:
    """M subnetworks in a copy of a model, which stays as it is.

    With `keep_weights` each encoder has 1/M of the first convolution's weights and bias, so that the sum of all
    encoders, which is what one image meets that enters all of them, is that convolution; and each head is a copy of the
    last linear layer. So every member predicts of one image what the model predicts, to rounding, until it is trained.
    Members that begin alike come apart in training, because each has images, masks and labels of its own.

    Without, the first member has the model's own encoder and head, and those of the others are drawn from normal laws
    of the same means and deviations. For one member either way gives the model itself, to the bit.

    ```python
    network = mf.mimoify(timm.create_model("resnet18", pretrained=True), members=2, classes=100)
    ```

    Args:
        model: Takes N x 3 x H x W and returns logits N x K, of a linear layer.
        members: M, at least 1.
        stem: Dotted name of the first convolution, to be sure which it is; None: found.
        head: Likewise of the last linear layer.
        classes: K; where it is not the model's, all heads are drawn anew by torch's own law.
        keep_weights: Whether the model's weights are worth keeping; what is drawn is by the global generator.
        image_size: (H, W) of an image that the model can take, or H = W.

    Raises:
        MixmoError: In a line, when the two layers cannot be found or cannot be what they would have to be.
    """
    if members < 1 or (classes is not None and classes < 1):
        raise MixmoError(f"mimoify: members and classes must be at least 1, found {members} and {classes}")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    layers = find_layers(model, stem, head, size)
    found_stem, found_head = model.get_submodule(layers.stem), model.get_submodule(layers.head)
    assert isinstance(found_stem, nn.Conv2d) and isinstance(found_head, nn.Linear)
    trunk = _trunk_of(model, layers, size)
    network = MixMo(copy.deepcopy(found_stem), trunk, _plain(found_head, classes), members)
    with torch.no_grad():
        if keep_weights:
            _share_out(network)
        else:
            for part in (*network.encoders[1:], *network.heads[1:]):
                first = network.encoders[0] if isinstance(part, nn.Conv2d) else network.heads[0]
                _draw_like(part, first)
        if keep_weights and found_head.out_features == network.classes:
            for other in network.heads[1:]:
                other.load_state_dict(network.heads[0].state_dict())
    return network.train(model.training)


class SlottedTrunk(nn.Module):
    """A model that looks at the image before its stem does: it sees an empty one, and its stem gives back the map.

    Args:
        model: With its stem replaced by `slot`, and its head by nothing.
        slot: That.
        stem: In whose place it stands.
        image_size: (H, W) of an image that the model can take; others differ from it by strides of the stem.
    """

    def __init__(self, model: nn.Module, slot: "Slot", stem: nn.Conv2d, image_size: tuple[int, int]):
        super().__init__()
        self.model, self.slot = model, slot
        sides = zip(image_size, map_size(stem, *image_size), stem.stride, strict=True)
        self.sides = [(stride, image_side - stride * side) for image_side, side, stride in sides]

    def forward(self, stem_map: Tensor) -> Tensor:
        """Maps the stem, N x C x h x w, to features, N x F."""
        sides = [stride * side + rest for (stride, rest), side in zip(self.sides, stem_map.shape[2:], strict=True)]
        self.slot.map = stem_map
        features = self.model(stem_map.new_zeros(()).expand(len(stem_map), IMAGE_CHANNELS, *sides))
        self.slot.map = None
        return features


class Slot(nn.Module):
    """Stands where a convolution was, and gives back what was laid into it, whatever it is called with."""

    map: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor | None:
        """The map."""
        return self.map


def _trunk_of(model: nn.Module, layers: Layers, image_size: tuple[int, int]) -> nn.Module:
    """A copy of the model from its stem's map to its head's features, in the simplest form that computes the same."""
    stem, head = model.get_submodule(layers.stem), model.get_submodule(layers.head)
    assert isinstance(stem, nn.Conv2d)
    rest = copy.deepcopy(model)
    rest.set_submodule(layers.head, nn.Identity())
    rest.set_submodule(layers.stem, nn.Identity())
    if (wrong := _differs(model, stem, rest, head, image_size)) is None:
        return rest
    slot = Slot()
    rest.set_submodule(layers.stem, slot)
    slotted = SlottedTrunk(rest, slot, stem, image_size)
    if (wrong := _differs(model, stem, slotted, head, image_size)) is None:
        return slotted
    raise MixmoError(
        f"mimoify: between {layers.stem} and {layers.head} the model does more than with the map of the first ({wrong})"
    )


def _differs(
    model: nn.Module, stem: nn.Module, trunk: nn.Module, head: nn.Module, image_size: tuple[int, int]
) -> str | None:
    """Why stem, trunk and head are not the model, in its evaluation mode; None where they are."""
    weight = next(stem.parameters())
    image = torch.empty(1, IMAGE_CHANNELS, *image_size, device=weight.device, dtype=weight.dtype)
    torch.linspace(-1, 2, image.numel(), out=image.view(-1))
    modes = [(module, module.training) for whole in (model, trunk) for module in whole.modules()]
    try:
        model.eval()
        trunk.eval()
        with torch.no_grad():
            expected, found = model(image), head(trunk(stem(image)))
    except Exception as error:  # whatever a model's own code raises when it is given a map
        return " ".join(str(error).split())[:100] or type(error).__name__
    finally:
        for module, mode in modes:
            module.training = mode
    if expected.shape != found.shape:
        return f"logits {tuple(found.shape)} instead of {tuple(expected.shape)}"
    if not image.is_meta and not torch.allclose(expected, found, rtol=1e-3, atol=1e-4, equal_nan=True):
        return "other logits"
    return None


def _plain(head: nn.Linear, classes: int | None) -> nn.Linear:
    """A copy of a head, without what a class of its own may add; anew where it is of other classes."""
    wanted = head.out_features if classes is None else classes
    weight = head.weight
    plain = nn.Linear(head.in_features, wanted, head.bias is not None, weight.device, weight.dtype)
    if wanted == head.out_features:
        plain.load_state_dict({name: tensor.detach() for name, tensor in head.named_parameters()})
    return plain


def _share_out(network: MixMo) -> None:
    """Shares the first encoder's weights and bias out to all."""
    for parameter in network.encoders[0].parameters():
        parameter.div_(network.members)
    for other in network.encoders[1:]:
        other.load_state_dict(network.encoders[0].state_dict())


def _draw_like(part: nn.Module, first: nn.Module) -> None:
    """Draws weights of the same mean and deviation as those of a layer of the same form; biases are copied."""
    for name, parameter in part.named_parameters():
        like = first.get_parameter(name)
        if name == "bias":
            parameter.copy_(like)
        else:
            parameter.copy_(like.mean() + like.std() * torch.randn_like(like))
