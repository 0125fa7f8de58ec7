"""One trunk shared by M members: M encoders in front of it, M heads behind it.

In training each row holds M different images, one for each member, and the mixing block blends their encoded
maps with masks (section 3 of arXiv 2103.06132). At inference one image enters all encoders with every mask at
1/M; encoders are linear, so they fold into one convolution and M predictions cost one network's forward pass.
M = 1 is that same path with a single encoder and head: an ordinary network.

Shapes: N rows, M members, C image channels, H W pixels, h w pixels of the map behind the stem, K classes.
"""

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

    Args:
        trunk: maps N x `stem_width` x h x w to N x `feature_width`.
        members: M, at least 1.
        classes: K, at least 1.
        stem_width: channels behind each encoder.
        stem_stride: stride of each encoder (3x3, padding 1, no bias): h = H / stem_stride.
        feature_width: features that each head reads.

    Attributes:
        encoders: M nn.Conv2d of shape stem_width x C x 3 x 3.
        trunk: the given one.
        heads: M nn.Linear of shape K x feature_width.
        stem: how the encoders are computed on images of their own, a `Stem`.

    Raises:
        ValueError: when `members` or `classes` is below 1.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        members: int,
        classes: int,
        stem_width: int,
        stem_stride: int,
        feature_width: int,
    ):
        super().__init__()
        if members < 1 or classes < 1:
            raise ValueError(f"members and classes must be at least 1, found {members} and {classes}")
        self.members = members
        self.classes = classes
        self.stem_width = stem_width
        self.stem_stride = stem_stride
        self.stem: Stem = "separate"
        # Registered in the order of data flow, which is also the order of the authors' checkpoints.
        encoders = nn.ModuleList(
            nn.Conv2d(IMAGE_CHANNELS, stem_width, 3, stride=stem_stride, padding=1, bias=False) for _ in range(members)
        )
        self.encoders = cast("Sequence[nn.Conv2d]", encoders)  # torch's list does not tell what it holds
        self.trunk = trunk
        self.heads = cast(
            "Sequence[nn.Linear]", nn.ModuleList(nn.Linear(feature_width, classes) for _ in range(members))
        )

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
        height, width = batch.images.shape[2] // self.stem_stride, batch.images.shape[3] // self.stem_stride
        return render_masks(batch.feature_box, batch.feature_values, height, width, batch.feature_pattern)

    def _encode_shared(self, images: Tensor) -> Tensor:
        """All encoders on one image, N x C x H x W: one convolution with the sum of their weights."""
        weight = cast(Tensor, sum(encoder.weight for encoder in self.encoders))
        return F.conv2d(images, weight, stride=self.stem_stride, padding=1)

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
        together = F.conv2d(images, torch.cat(weights), stride=self.stem_stride, padding=1, groups=groups)
        return mix_features(together.chunk(self.members, dim=1), masks)

    def _classify(self, features: Tensor) -> Tensor:
        """All heads in one matrix product: N x feature_width to N x M x K."""
        weight = torch.cat([head.weight for head in self.heads])
        bias = torch.cat([head.bias for head in self.heads])
        return F.linear(features, weight, bias).unflatten(1, (self.members, self.classes))
