"""Adaptive augmentation: as strong as the critic's overfitting needs it."""

from typing import Any

import torch
from torch import Tensor

UPDATES = 4  # of the critic from one adjustment to the next


class AdaptiveStrength:
    """The share of images that are augmented, steered by the critic (Karras et al. 2020, Sec. 3.1).

    The sign of a score says whether the critic takes an image for real. Where the mean sign of
    reals is above `target`, the critic knows them by heart: the share rises, else it falls. It
    begins at 0. No value is read by the host.

    Args:
        target: mean sign of reals that is aimed at; 0.6 in the paper.
        kimg: thousands of images in which the share may go from 0 to 1; 500 in the paper.
    """

    def __init__(self, target: float, kimg: float, device: torch.device | str = "cpu"):
        self.target = target
        self.kimg = kimg
        self.strength = torch.zeros((), device=device)
        self.signs = torch.zeros((), device=device)  # sum over the reals since the last adjustment
        self.images = self.updates = 0  # since then

    def add(self, sign: Tensor, images: int) -> None:
        """Count a critic update. sign: the mean over its `images` reals, of all processes."""
        # A sum of signs is a whole number, so the order of the mean's additions does not matter.
        self.signs = self.signs + (sign * images).nan_to_num().round()
        self.images += images
        self.updates += 1
        if self.updates == UPDATES:
            over = torch.sign(self.signs - self.target * self.images)
            strength = self.strength + over * (self.images / (1000 * self.kimg))
            self.strength, self.signs = strength.clamp(0, 1), torch.zeros_like(self.signs)
            self.images = self.updates = 0

    def state_dict(self) -> dict[str, Any]:
        counts = {"images": self.images, "updates": self.updates}
        return {"strength": self.strength.cpu(), "signs": self.signs.cpu(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if they are no strength and counts."""
        strength, signs, images, updates = (
            state[key] for key in ("strength", "signs", "images", "updates")
        )
        right = strength.shape == signs.shape == () and 0 <= strength <= 1
        if not right or not 0 <= updates < UPDATES or not abs(signs) <= images:
            raise ValueError(f"{state} is no state of adaptive augmentation")
        self.strength, self.signs = (x.to(self.signs.device) for x in (strength, signs))
        self.images, self.updates = images, updates
