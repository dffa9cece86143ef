"""Ways through latent space: mixtures of latents, and directions in which images change alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.model.networks import Generator
from progan.model.sampling import slerp_at

MOST_CORNERS = 4
BATCH = 256  # latents at a time, of which only 4x4 features are made


def on_plane(corners: Tensor, x: float, y: float) -> Tensor:
    """A mixture of one to four latents, each of which is a corner of a square: [z_dim].

    The way is along the sphere on which training's latents lie (slerp): the generator normalizes
    a latent, so its length says nothing, and a straight mean of several would only be shorter.

    Args:
        corners: [K, z_dim]. At (0, 0) and (1, 0) are the first two; two more are at y = 1, or a
            third one alone, whatever x is. A corner's latent is met exactly.
        x, y: from 0 to 1.
    """

    def between(a: Tensor, b: Tensor, t: float) -> Tensor:
        return slerp_at(a, b, torch.tensor([t], dtype=torch.float64))[0]

    rows = [corners[k : k + 2] for k in range(0, len(corners), 2)]
    ends = [between(row[0], row[-1], x) if len(row) > 1 else row[0] for row in rows]
    return between(ends[0], ends[1], y) if len(ends) > 1 else ends[0]


def moved(z: Tensor, directions: Tensor, steps: Sequence[float]) -> Tensor:
    """A latent after steps in some directions, as long as before: [z_dim].

    Args:
        directions: unit vectors [K, z_dim].
        steps: one for each direction; 1 is the standard deviation of latents along it.
    """
    if not any(steps):
        return z
    there = z + torch.tensor(steps, dtype=z.dtype) @ directions
    return there * (z.norm() / there.norm())


@torch.no_grad()
def first_features(G: Generator, z: Tensor, c: Tensor | None = None) -> Tensor:
    """What the generator's first block makes of latents [N, z_dim]: float32 [N, F] on the CPU.

    Args:
        c: labels [N, c_dim], if the generator has any.
    """
    device = next(G.parameters()).device
    block = G.blocks[str(START_RESOLUTION)]
    inputs = G.inputs(z, c)
    parts = [block(part.to(device)).flatten(1).float().cpu() for part in inputs.split(BATCH)]
    return torch.cat(parts)


def principal_directions(z: Tensor, features: Tensor, count: int) -> Tensor:
    """Directions in which features vary most: unit vectors [count, z_dim], the strongest first.

    PCA of the features, and a regression from the latents' places along each component back to the
    latents (Härkönen et al., GANSpace, NeurIPS 2020, Sec. 2.1, Eq. 2). It needs no labels. A
    direction's sign says nothing; here its largest part is positive.

    Args:
        z: independent latents [N, z_dim], several times as many as `z_dim`.
        features: of these latents [N, F].
    """
    centred = (features - features.mean(0)).double()
    # Of N latents and F features either may be the larger; this is the size of the latents' side.
    _, places = torch.linalg.eigh(centred @ centred.T)  # [N, N], the weakest first
    directions = places.flip(1)[:, :count].T @ z.double()
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    unit = directions * largest.sign() / directions.norm(dim=1, keepdim=True)
    return unit.to(z.dtype)


def label_direction(z: Tensor, has: Tensor) -> tuple[Tensor, float]:
    """The direction from latents whose images lack a label to those that have it: [z_dim].

    The difference of both means, which is Fisher's linear discriminant where all parts of a latent
    are independent and vary alike, as in training.

    Args:
        z: independent latents [N, z_dim].
        has: whether a classifier sees the label in their images, bool [N].

    Returns:
        A unit vector, learned from the first half of the latents; and in what share of pairs it
        puts a latent of the second half that has the label above one that lacks it: 0.5 is chance,
        and NaN where one of the two is missing.
    """
    half = len(z) // 2
    learned = z[:half][has[:half]].mean(0) - z[:half][~has[:half]].mean(0)
    unit = learned / learned.norm()
    places = z[half:] @ unit
    above = places[has[half:], None] > places[None, ~has[half:]]
    return unit, above.double().mean().item()
