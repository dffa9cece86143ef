"""Whether prepared images are still those that were prepared: all of them, at every resolution."""

from collections.abc import Iterator

import numpy as np

from progan.data.pyramid.digests import digests_of
from progan.data.pyramid.format import Pyramid, size_in_bytes
from progan.runtime.progress import Say, progress_bar

AT_ONCE_BYTES = 2**24


def damage_of(pyramid: Pyramid, say: Say = None) -> Iterator[str]:
    """A line on what reading every image has shown.

    Raises:
        DamagedPyramid: a file cannot be read to its end.
    """
    digests = pyramid.digests
    if digests is None:
        yield "not known: it has no checksums, as progan 0.1 or another program has made it"
        return
    wrong: dict[int, int] = {}
    total = pyramid.count * len(pyramid.levels)
    with progress_bar(f"reading {pyramid.title}", total, 0, say) as advance:
        for r, expected in zip(pyramid.levels, digests.T, strict=True):
            step = max(1, AT_ONCE_BYTES // size_in_bytes(1, pyramid.channels, r))
            for start in range(0, pyramid.count, step):
                indices = np.arange(start, min(start + step, pyramid.count))
                differ = digests_of(pyramid.read(indices, r)) != expected[indices]
                wrong[r] = wrong.get(r, 0) + int(differ.sum())
                advance(len(indices))
    found = ", ".join(f"{n:,} at {r}x{r}" for r, n in wrong.items() if n)
    yield f"damaged: {found}; delete the folder and prepare it again" if found else "as prepared"
