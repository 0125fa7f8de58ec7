"""One trunk shared by M members: M encoders in front of it, M heads behind it.

In training each row holds M different images, one for each member, and the mixing block blends their encoded
maps with masks (section 3 of arXiv 2103.06132). At inference one image enters all encoders with every mask at
1/M; encoders are linear, so they fold into one convolution and M predictions cost one network's forward pass.
M = 1 is that same path with a single encoder and head: an ordinary network.

Shapes: N rows, M members, C image channels, H W pixels, h w pixels of the map behind the stem, K classes.
"""

import copy
from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.block import mix_features, render_masks

IMAGE_CHANNELS = 3

Stem = Literal["separate", "grouped", "dense"]
"""M convolutions; one of M groups; or one that reads all members' channels, with weights of 0 between members."""

_CHANNELS_AT_ONCE = 8  # tensor cores read so many 16-bit numbers; cuDNN pads what is no multiple by itself


class MixMo(nn.Module):
    """M encoders, the mixing block, a trunk and M heads.

    ```python
    network = mf.MixMo(nn.Conv2d(3, 32, 3, padding=1), trunk, nn.Linear(128, 10), members=2)
    ```

    Args:
        encoder: The first member's; the others are of its form and start from torch's own draw. Any kernel, stride,
            padding of zeros, dilation and bias.
        trunk: Maps what an encoder gives, N x `stem_width` x h x w, to N x F features.
        head: The first member's, from F features to K classes; the others likewise.
        members: M, at least 1.

    Attributes:
        encoders: M nn.Conv2d.
        trunk: The given one.
        heads: M nn.Linear.
        members: M.
        classes: K.
        stem: How the encoders are computed on images of their own, a `Stem`.

    Raises:
        ValueError: For `members` below 1, and an encoder or head of which M cannot be computed as one.
    """

    def __init__(self, encoder: nn.Conv2d, trunk: nn.Module, head: nn.Linear, members: int):
        super().__init__()
        _check_parts(encoder, head, members)
        self.members = members
        self.classes = head.out_features
        self.stem: Stem = "separate"
        # Registered in the order of data flow, which is also the order of the authors' checkpoints.
        encoders = nn.ModuleList([encoder, *(_another(encoder) for _ in range(members - 1))])
        self.encoders = cast("Sequence[nn.Conv2d]", encoders)  # torch's list does not tell what it holds
        self.trunk = trunk
        heads = nn.ModuleList([head, *(_another(head) for _ in range(members - 1))])
        self.heads = cast("Sequence[nn.Linear]", heads)

    @property
    def stem_width(self) -> int:
        """Channels behind each encoder."""
        return self.encoders[0].out_channels

    @property
    def stem_stride(self) -> int:
        """Rows of an image from one row of the map to the next."""
        return self.encoders[0].stride[0]

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the map behind the encoders, for an image of H x W pixels."""
        return map_size(self.encoders[0], height, width)

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Predicts the classes of each member's image.

        Args:
            images: with masks, N x (M*C) x H x W, member m in channels C*m..C*m+C-1; without, N x C x H x W,
                one image that all members see. Floating, normalised, preferably channels_last.
            masks: N x M x h x w on the map behind the stem, or N x M x 1 x 1 when constant, summing to 1 over
                members; float32. None is the shared-image call.

        Returns:
            Logits, N x M x K, in the dtype the heads compute in (autocast's, under autocast).

        Raises:
            ValueError: when the number of channels does not fit the kind of call, or that of masks the
                members.
        """
        kind, channels = "without masks", IMAGE_CHANNELS
        if masks is not None:
            kind, channels = "with masks", self.members * IMAGE_CHANNELS
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"a call {kind} of a network of {self.members} members needs images of shape "
                f"N x {channels} x H x W, found {tuple(images.shape)}"
            )
        stem = self._encode_shared(images) if masks is None else self._encode_mixed(images, masks)
        return self._classify(self.trunk(stem))

    def masks(self, batch: Batch) -> Tensor | None:
        """A training batch's masks on this network's map, as `forward` takes them; None for one member."""
        if self.members == 1:
            return None
        height, width = self.map_size(*batch.images.shape[2:])
        return render_masks(batch.feature_box, batch.feature_values, height, width, batch.feature_pattern)

    def _encode_shared(self, images: Tensor) -> Tensor:
        """All encoders on one image, N x C x H x W: one convolution with the sum of their weights."""
        weight = cast(Tensor, sum(encoder.weight for encoder in self.encoders))
        biases = [encoder.bias for encoder in self.encoders if encoder.bias is not None]
        return self._convolve(images, weight, cast(Tensor, sum(biases)) if biases else None)

    def _convolve(self, images: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
        """A convolution of the encoders' form."""
        form = self.encoders[0]
        return F.conv2d(images, weight, bias, form.stride, form.padding, form.dilation, groups)

    def _encode_mixed(self, images: Tensor, masks: Tensor) -> Tensor:
        """Each encoder on its own image, N x (M*C) x H x W, blended by the masks."""
        if self.stem == "separate":
            own_images = images.split(IMAGE_CHANNELS, dim=1)
            encoded = [encoder(image) for encoder, image in zip(self.encoders, own_images, strict=True)]
            return mix_features(encoded, masks)
        groups = self.members if self.stem == "grouped" else 1
        weights = [encoder.weight for encoder in self.encoders]
        if self.stem == "dense":
            unused = -images.shape[1] % _CHANNELS_AT_ONCE
            images = F.pad(images, (0, 0, 0, 0, 0, unused))
            behind = [images.shape[1] - IMAGE_CHANNELS * (member + 1) for member in range(self.members)]
            weights = [
                F.pad(weight, (0, 0, 0, 0, IMAGE_CHANNELS * member, behind[member]))
                for member, weight in enumerate(weights)
            ]
        biases: list[Tensor] = [encoder.bias for encoder in self.encoders if encoder.bias is not None]
        together = self._convolve(images, torch.cat(weights), torch.cat(biases) if biases else None, groups)
        return mix_features(together.chunk(self.members, dim=1), masks)

    def _classify(self, features: Tensor) -> Tensor:
        """All heads in one matrix product: N x feature_width to N x M x K."""
        weight = torch.cat([head.weight for head in self.heads])
        biases: list[Tensor] = [head.bias for head in self.heads if head.bias is not None]
        logits = F.linear(features, weight, torch.cat(biases) if biases else None)
        return logits.unflatten(1, (self.members, self.classes))


def map_size(encoder: nn.Conv2d, height: int, width: int) -> tuple[int, int]:
    """(h, w) of the map behind a convolution, for an image of H x W pixels."""
    sides = []
    for axis, side in enumerate((height, width)):
        reach = encoder.dilation[axis] * (encoder.kernel_size[axis] - 1)
        if encoder.padding == "same":
            sides.append(side)
            continue
        padding = 0 if isinstance(encoder.padding, str) else encoder.padding[axis]
        sides.append((side + 2 * padding - reach - 1) // encoder.stride[axis] + 1)
    return sides[0], sides[1]


def _another(part: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """One of the same form, with weights of its own."""
    other = copy.deepcopy(part)
    other.reset_parameters()
    return other


def _check_parts(encoder: nn.Conv2d, head: nn.Linear, members: int) -> None:
    """Refuses what M encoders and heads cannot be made of; folding needs to know what a convolution computes."""
    if type(encoder) is not nn.Conv2d or type(head) is not nn.Linear:
        found = f"{type(encoder).__name__} and {type(head).__name__}"
        raise ValueError(f"encoder and head must be plain nn.Conv2d and nn.Linear, found {found}")
    if members < 1 or head.out_features < 1:
        raise ValueError(f"members and classes must be at least 1, found {members} and {head.out_features}")
    found_form = encoder.in_channels, encoder.groups, encoder.padding_mode
    if found_form != (IMAGE_CHANNELS, 1, "zeros"):
        raise ValueError(
            f"the encoder must read {IMAGE_CHANNELS} channels in one group and pad with zeros, found "
            "{} channels, {} groups and {}".format(*found_form)
        )
