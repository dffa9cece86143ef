"""For each seed the best of several latents, by the critic's score."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.model.networks import CriticEnd, conditions
from progan.model.sampling import latents
from progan.runs.critic import load_critic
from progan.runs.snapshot import Snapshot
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as


class BestOf:
    """Chooses latents: the images are nearer to what the critic takes for real, and vary less.

    A seed's candidates are its own latent and further draws of it, so they depend on the seed only.

    Args:
        count: candidates of each seed. They pass through both networks at once.
        device: where the networks compute.

    Raises:
        UserError: the snapshot's run has no critic of this resolution.
    """

    def __init__(self, snapshot: Snapshot, count: int, device: torch.device):
        D, nimg = load_critic(snapshot, "--best-of")
        grown, _ = snapshot.config.make_schedule().reached(nimg)
        if grown != snapshot.resolution:
            r = snapshot.resolution
            raise UserError(
                f"--best-of needs a critic of {r}x{r}, and the run's has grown to {grown}x{grown} "
                "since; take a newer snapshot"
            )
        self.snapshot, self.count = snapshot, count
        self.D = D.to(device)
        # One group, so that its statistic is the same for all candidates of a seed, and no other's.
        end = self.D.blocks[str(START_RESOLUTION)]
        assert isinstance(end, CriticEnd)
        end.stddev_group = count if end.stddev_group > 1 else 1
        self.described = f"{count} latents, by the critic at {nimg / 1000:g} kimg"

    def latents(self, seeds: Sequence[int], labels: np.ndarray | None) -> Tensor:
        """The chosen latents, [N, z_dim], of seeds with labels int64 [N] or uint8 [N, K]."""
        rows = [None] * len(seeds) if labels is None else list(labels)
        return torch.stack([self.best(seed, row) for seed, row in zip(seeds, rows, strict=True)])

    def best(self, seed: int, label: np.ndarray | None) -> Tensor:
        """The latent with the highest score, [z_dim]."""
        G = self.snapshot.G
        candidates = torch.cat([latents([seed], G.z_dim, k) for k in range(self.count)])
        return candidates[int(self.scores(candidates, label).argmax())]

    @torch.no_grad()
    def scores(self, z: Tensor, label: np.ndarray | None) -> Tensor:
        """The critic's scores [N] of latents [N, z_dim] that have one label."""
        G, D, alpha = self.snapshot.G, self.D, self.snapshot.alpha
        device = next(D.parameters()).device
        weight = None if alpha is None else torch.tensor(alpha, device=device)
        c = None
        if label is not None:
            labels = torch.as_tensor(np.repeat(np.asarray(label)[None], len(z), axis=0))
            c = conditions(labels.to(device), G.c_dim)
        with float32_as("ieee"):
            images = G(z.to(device), c, resolution=self.snapshot.resolution, alpha=weight)
            scores, logits = D(images, weight)
        if c is None or logits is None or self.snapshot.config.loss.labels != "projection":
            return scores
        return scores + (c * logits).sum(dim=1)  # as `training.updates.judged` has it
