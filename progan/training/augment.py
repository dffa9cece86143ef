"""Differentiable augmentation: the critic sees reals and fakes only through random changes.

Zhao et al., *Differentiable Augmentation for Data-Efficient GAN Training* (NeurIPS 2020), ranges
as in its Sec. 3.2. The critic cannot learn few reals by heart. Fakes are changed in the same
way and gradients pass through to the generator, so the changes do not show in samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

DRAWS = 8  # random numbers an image, for any policy; the last one decides whether it is changed


def augment(
    images: Tensor, draws: Tensor | None, policy: Sequence[str], strength: float | Tensor = 1.0
) -> Tensor:
    """Images as the critic sees them: [N, C, r, r] -> [N, C, r, r], differentiable twice.

    Args:
        draws: uniform in [0, 1), [N, DRAWS]; `None` only with an empty policy. Each column has one
            use, so that one kind does not change what another does.
        policy: names from `KINDS`; they are applied in the order they have there.
        strength: probability that an image is changed; a 0-dim tensor where it varies.
    """
    assert all(name in KINDS for name in policy)
    if draws is None:
        assert not policy
        return images
    changed = images
    for name, (kind, columns) in KINDS.items():
        if name in policy:
            changed = kind(changed, draws[:, columns])
    if not isinstance(strength, Tensor) and strength == 1:
        return changed
    return torch.where((draws[:, -1] < strength)[:, None, None, None], changed, images)


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Add a brightness of -0.5 … 0.5; scale saturation by 0 … 2 and contrast by 0.5 … 1.5.

    Nothing is clipped, as clipped pixels have no gradient. Grey images have no saturation.
    """
    brightness, saturation, contrast = draws[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    images = torch.lerp(images.mean(1, keepdim=True), images, 2 * saturation)
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, 0.5 + contrast)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Shift by whole pixels down and right, up to ± r/8 (at 4x4 ± 1, as the authors' code)."""
    r = images.shape[-1]
    most = (r + 4) // 8
    shift = whole(draws, 2 * most + 1) - most  # [N, 2]
    source = torch.arange(r, device=images.device) - shift[:, :, None]  # [N, 2, r]
    rows, columns = source.clamp(0, r - 1).unbind(1)
    pixels = (rows[:, :, None] * r + columns[:, None, :]).flatten(1)  # [N, r²]
    pixels = pixels[:, None].expand(-1, images.shape[1], -1)
    # The gradient adds at most one number other than 0 to a pixel: exact in any order.
    moved = images.flatten(2).gather(2, pixels).reshape(images.shape)
    return moved.masked_fill(~box((source >= 0) & (source < r)), 0)


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Set a square of side r/2 to 0; centred on any corner of a pixel, so a border may cut it."""
    r = images.shape[-1]
    start = whole(draws, r + 1) - r // 4  # [N, 2]
    place = torch.arange(r, device=images.device) - start[:, :, None]  # [N, 2, r]
    return images.masked_fill(box((place >= 0) & (place < r // 2)), 0)


def whole(draws: Tensor, count: int) -> Tensor:
    """Draws in [0, 1) to whole numbers 0 … count - 1."""
    return (draws * count).long()


def box(sides: Tensor) -> Tensor:
    """The pixels of a box [N, 1, r, r] from its rows and columns, bool [N, 2, r]."""
    rows, columns = sides.unbind(1)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


# Each kind's function and columns of the draws. Never renumber: seeds would give other runs.
KINDS = {
    "color": (color, slice(0, 3)),
    "translation": (translation, slice(3, 5)),
    "cutout": (cutout, slice(5, 7)),
}
