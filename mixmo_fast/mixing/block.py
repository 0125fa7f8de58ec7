"""The mixing block: how the members' features become one feature map, and how planned masks become tensors.

This is the only place where members meet (section 3 of arXiv 2103.06132). Both functions are
deterministic, hold no state and run inside the compiled step: what is random was decided earlier,
on the host.

Shapes: N rows, M members, C channels, H W pixels of the map behind the stem.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixmo_fast.mixing.patterns import INSIDE


def mix_features(features: Sequence[Tensor], masks_NMHW: Tensor) -> Tensor:
    """Mixes the members' feature maps: ``z = M * sum_m mask_m * feature_m``.

    The factor M keeps the scale of a plain sum when every mask is 1/M. Products are accumulated in the wider
    of the two dtypes and rounded once, so float32 masks cost bfloat16 features no precision; a compiler fuses
    all of it into one pass, and without one no more than one product is held beside the sum.

    Args:
        features: M maps, each N x C x H x W, of one floating dtype and one memory format.
        masks_NMHW: N x M x H x W, or N x M x 1 x 1 when a mask is constant over the map; N x M x C x H x W
            when it also differs between channels. Floating, usually float32 whatever the features are.

    Returns:
        N x C x H x W, in the features' dtype and memory format.

    Raises:
        ValueError: when the number of masks is not the number of feature maps.
    """
    members = len(features)
    if masks_NMHW.ndim not in (4, 5) or masks_NMHW.shape[1] != members:
        raise ValueError(
            f"{members} feature maps need masks of shape N x {members} x H x W, found {tuple(masks_NMHW.shape)}"
        )
    masks = masks_NMHW if masks_NMHW.ndim == 5 else masks_NMHW.unsqueeze(2)
    # The masks are C times smaller than the features, so the factor goes there, in the dtype of the products.
    scaled = masks.to(torch.promote_types(masks.dtype, features[0].dtype)) * members
    mixed = features[0] * scaled[:, 0]
    for member in range(1, members):
        mixed = torch.addcmul(mixed, features[member], scaled[:, member])
    return mixed.to(features[0].dtype)


def render_masks(
    box_N4: Tensor, values_NM2: Tensor, height: int, width: int, pattern_NCHW: Tensor | None = None
) -> Tensor:
    """Paints each row's masks: one value inside the row's box or pattern, another one outside of it.

    Two numbers a member and one box a row describe linear mixing (equal values), patch mixing (1 and 0) and
    patch mixing of more than two members alike, so this is all that travels from the host to the device. Other
    masks have a pattern of bytes instead of the box.

    Args:
        box_N4: N x 4 integers (y0, y1, x0, x1), half open: rows y0..y1-1 and columns x0..x1-1. ``y0 >= y1``
            or ``x0 >= x1`` is an empty box.
        values_NM2: N x M x 2 floating; ``[..., 0]`` is the value inside the box, ``[..., 1]`` the one outside.
        height: H of the map, in pixels.
        width: W of the map, in pixels.
        pattern_NCHW: N x 1 x H x W, N x C x 1 x 1 or N x C x H x W bytes, 128 inside and 0 outside; None, or without
            channels: the box is meant.

    Returns:
        N x M x H x W, float32; N x M x C x 1 x 1 or N x M x C x H x W for a pattern of C > 1 channels.
    """
    if pattern_NCHW is not None and pattern_NCHW.shape[1]:
        inside = pattern_NCHW[:, None].float() * (1 / INSIDE)  # N x 1 x C x H x W
        value_inside, value_outside = values_NM2.float()[..., None, None, None].unbind(2)  # each N x M x 1 x 1 x 1
        masks = inside * value_inside + (1 - inside) * value_outside
        return masks[:, :, 0] if masks.shape[2] == 1 else masks
    y0, y1, x0, x1 = box_N4.unsqueeze(-1).unbind(1)  # each N x 1
    y = torch.arange(height, device=box_N4.device)
    x = torch.arange(width, device=box_N4.device)
    in_rows = (y >= y0) & (y < y1)  # N x H
    in_columns = (x >= x0) & (x < x1)  # N x W
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # N x 1 x H x W
    value_inside, value_outside = values_NM2.float()[..., None, None].unbind(2)  # each N x M x 1 x 1
    return torch.where(inside, value_inside, value_outside)
