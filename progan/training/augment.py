"""Differentiable augmentation: the critic sees reals and fakes only through random changes.

Zhao et al., *Differentiable Augmentation for Data-Efficient GAN Training* (NeurIPS 2020), ranges
as in its Sec. 3.2. The critic cannot learn few reals by heart, and because fakes are changed
alike, with gradients passing through to the generator, the changes do not show in samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

DRAWS = 7  # numbers an image, whatever the policy


def augment(images: Tensor, draws: Tensor | None, policy: Sequence[str]) -> Tensor:
    """Images as the critic sees them: [N, C, r, r] -> [N, C, r, r], differentiable twice.

    Args:
        draws: uniform in [0, 1), [N, DRAWS]; may be missing if the policy is empty. Each column
            has one use, so that one kind does not change what another does.
        policy: of `KINDS`, which are applied in the order they have there.
    """
    assert all(name in KINDS for name in policy)
    for name, (kind, columns) in KINDS.items():
        if name in policy:
            images = kind(images, draws[:, columns])
    return images


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness -0.5 … 0.5 is added; saturation is 0 … 2 fold, contrast 0.5 … 1.5 fold.

    Nothing is clipped, or the gradient would be lost there. Grey images have no saturation.
    """
    brightness, saturation, contrast = draws[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    images = torch.lerp(images.mean(1, keepdim=True), images, 2 * saturation)
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, 0.5 + contrast)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Whole pixels down and right, up to ± r/8 (at 4x4 ± 1, as the paper's code rounds)."""
    r = images.shape[-1]
    most = (r + 4) // 8
    shift = whole(draws, 2 * most + 1) - most  # [N, 2]
    source = torch.arange(r, device=images.device) - shift[:, :, None]  # [N, 2, r]
    rows, columns = source.clamp(0, r - 1).unbind(1)
    pixels = (rows[:, :, None] * r + columns[:, None, :]).flatten(1)  # [N, r²]
    pixels = pixels[:, None].expand(-1, images.shape[1], -1)
    # The gradient adds at most one number that is not 0 to a pixel: exact, in whatever order.
    moved = images.flatten(2).gather(2, pixels).reshape(images.shape)
    return moved.masked_fill(~box((source >= 0) & (source < r)), 0)


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """A square of r/2 becomes 0; its centre is any corner of a pixel, so a border may cut it."""
    r = images.shape[-1]
    start = whole(draws, r + 1) - r // 4  # [N, 2]
    place = torch.arange(r, device=images.device) - start[:, :, None]  # [N, 2, r]
    return images.masked_fill(box((place >= 0) & (place < r // 2)), 0)


def whole(draws: Tensor, count: int) -> Tensor:
    """Uniform in [0, 1) to whole numbers 0 … count - 1."""
    return (draws * count).long()


def box(sides: Tensor) -> Tensor:
    """Rows and columns that a box has, bool [N, 2, r], to its pixels [N, 1, r, r]."""
    rows, columns = sides.unbind(1)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


# Kind to its function and its columns of the draws. Never renumber: a seed would mean another run.
KINDS = {
    "color": (color, slice(0, 3)),
    "translation": (translation, slice(3, 5)),
    "cutout": (cutout, slice(5, 7)),
}
