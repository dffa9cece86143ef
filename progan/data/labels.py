"""Labels: what each image of a data set shows."""

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from progan.data.epoch_order import spread
from progan.runtime.text import printable

SHOWN = 10  # names in a line
LONGEST = 200  # letters of a name that is printed


@final
@dataclass(frozen=True, eq=False)
class Labels:
    """One of K classes for each of N images, or any of K attributes.

    Args:
        names: of the classes or attributes.
        values: int64 [N], indices into the names, for classes; uint8 [N, K] of 0 and 1 for
            attributes.
        origin: where they come from, such as the path of a table; empty if it is not known.
        doubt: sentences on what else may have been meant.
    """

    names: tuple[str, ...]
    values: np.ndarray
    origin: str = ""
    doubt: str = ""

    @staticmethod
    def each_class(names: tuple[str, ...]) -> "Labels":
        """Every class once."""
        return Labels(names, np.arange(len(names)))

    @property
    def kind(self) -> Literal["classes", "attributes"]:
        return "classes" if self.values.ndim == 1 else "attributes"

    @property
    def shown(self) -> list[str]:
        """The names as they may be printed: one in a table or a folder's name may hold anything, of
        any length."""
        cut = (n if len(n) <= LONGEST else f"{n[: LONGEST - 1]}…" for n in self.names)
        return list(map(printable, cut))

    @property
    def provenance(self) -> list[str]:
        """Where they come from, as lines for people; none if it is not known."""
        some, rest = ", ".join(self.shown[:SHOWN]), len(self.names) - SHOWN
        more = f", … and {rest:,} more" if rest > 0 else ""
        lines = [f"{self.kind} from {printable(self.origin)}: {some}{more}", self.doubt]
        return list(filter(None, lines)) if self.origin else []

    @property
    def counts(self) -> np.ndarray:
        """How many images have each class or attribute: int64 [K]."""
        if self.kind == "classes":
            return np.bincount(self.values, minlength=len(self.names))
        return self.values.sum(0, dtype=np.int64)

    @property
    def shares(self) -> np.ndarray:
        """The share of all images that have each class or attribute: float64 [K]."""
        return self.counts / len(self.values)

    @property
    def empty_classes(self) -> list[str]:
        """Names of the classes that no image has. An attribute may be missing everywhere."""
        if self.kind == "attributes":
            return []
        return [name for name, n in zip(self.shown, self.counts, strict=True) if n == 0]

    def take(self, images: np.ndarray | slice) -> "Labels":
        """The labels of some images."""
        return replace(self, values=self.values[images])

    def matrix(self, images: np.ndarray) -> np.ndarray:
        """Which of the K labels some images have: bool [n, K]."""
        values = self.values[images]
        if self.kind == "classes":
            return values[:, None] == np.arange(len(self.names))
        return values.astype(bool)

    def alike(self, image: int) -> np.ndarray:
        """The images with the labels of this one, itself among them: indices int64 [n]."""
        rows = self.values.reshape(len(self.values), -1)
        return np.flatnonzero((rows == rows[image]).all(1))

    def examples(self, most: int) -> "Labels":
        """Labels to make examples of: each class once, or the attributes of images by `spread`."""
        if self.kind == "classes":
            return Labels.each_class(self.names)
        return self.take(spread(len(self.values), most))
