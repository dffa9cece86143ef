"""A snapshot: the averaged generator at one moment of a run, which makes images by seed."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from progan.config.config import Config
from progan.config.resolutions import resolutions_to
from progan.data.labels import Labels
from progan.model.networks import Generator
from progan.model.sampling import TrainedGenerator, example_rows, in_batches, latents, slerp
from progan.runs.origin import Origin
from progan.runtime.errors import UserError, nearest
from progan.runtime.provenance import Provenance

Choice = int | str  # the name or number of a class; attributes as "Smiling,Male"
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
MOST_LISTED = 100  # classes in a message


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot:
    """The averaged generator as it was at `nimg`; `progan.load` reads one.

    Images are made where the weights are: `snapshot.generator.to("cuda")` moves them.
    """

    file: Path
    G: Generator
    config: Config
    nimg: int
    resolution: int
    alpha: float | None
    labels: Labels | None = None  # each class once, or attributes of some images of the data
    data: str | None = None  # the identity of the data it was trained on
    length: float | None = None  # of a power average that was made after training
    origin: Origin | None = None  # the networks that its run began with, if of another run
    licence: str | None = None  # of the weights, where another project's file states it

    def __repr__(self) -> str:
        size = f"{self.resolution}x{self.resolution}"
        labels = f", {len(self.labels.names)} {self.labels.kind}" if self.labels else ""
        return f"<Snapshot {self.file}: {self.nimg / 1000:g} kimg, {size}{labels}>"

    @cached_property
    def generator(self) -> TrainedGenerator:
        """Latents [N, z_dim], and labels [N, c_dim] if it has any, to images [N, C, r, r].

        Resolution and alpha are fixed; images are about [-1, 1].
        """
        return TrainedGenerator(self.G, self.resolution, self.alpha)

    def sample(
        self,
        seeds: Iterable[int] = range(16),
        *,
        classes: Choice | Iterable[Choice] | None = None,
        resolution: int | None = None,
    ) -> np.ndarray:
        """Images of seeds, as `progan sample` makes them: uint8 [N, r, r, C].

        A seed always gives the same image.

        Args:
            seeds: whole numbers from 0.
            classes: a class by name, or by number if no name is one, for all seeds or one for
                each; of attributes those to switch on: "Smiling,Male". None: by seed, the classes
                in turn, or attributes of images of the data.
            resolution: of an earlier stage of the network, drawn by that stage's own last layer.
                It has learned nothing since the next stage had faded in, while the layers before
                it have: the image shows what the network plans, in colours that may be off. For
                good small images resize large ones. None: the full resolution.

        Raises:
            UserError: no such seed, class or resolution.
        """
        numbers = check_seeds(seeds)
        z = latents(numbers, self.G.z_dim)
        return self._images(z, self.labels_of(numbers, classes), resolution)

    def interpolate(
        self,
        a: int,
        b: int,
        steps: int = 16,
        *,
        classes: Choice | None = None,
        resolution: int | None = None,
    ) -> np.ndarray:
        """Images on the way from seed `a` to seed `b`, both included: uint8 [steps, r, r, C].

        Latents are interpolated on the sphere (slerp), where those of training lie.

        Args:
            classes: of all images, as in `sample`. None: as seed `a` has.
            resolution: as in `sample`.

        Raises:
            UserError: no such seed, class or resolution, or fewer than two steps.
        """
        if not isinstance(steps, Integral) or steps < 2:
            raise UserError(f"steps is {steps!r}; give 2 or more: both ends are among them")
        labels = self.labels_of(check_seeds([a]), classes)
        z = slerp(*latents(check_seeds([a, b]), self.G.z_dim), steps)
        return self._images(z, None if labels is None else labels.repeat(steps, 0), resolution)

    @cached_property
    def sha256(self) -> str:
        """Of its file, as `sha256sum` prints it."""
        with open(self.file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def provenance(self, *, composite: bool = False, **facts: object) -> Provenance:
        """What a picture of this snapshot's images says of itself: the file's SHA-256, kimg, facts.

        Args:
            composite: whether the picture has images of other sources, too.
            facts: such as `seed=7`; those that are None are left out.
        """
        known = {"snapshot": f"sha256 {self.sha256}", "kimg": f"{self.nimg / 1000:g}"}
        more = {name: str(fact) for name, fact in facts.items() if fact is not None}
        return Provenance(known | more, composite)

    def labels_of(
        self, seeds: Sequence[int], classes: Choice | Iterable[Choice] | None
    ) -> np.ndarray | None:
        """Labels of seeds, int64 [N] or uint8 [N, K]; None without labels. See `sample`."""
        if self.labels is None:
            if classes is not None:
                raise UserError(
                    f"no class {classes!r}: this snapshot was trained without labels (data.labels)"
                )
            return None
        if classes is None:
            return example_rows(seeds, self.labels.values)
        if isinstance(classes, str) or not isinstance(classes, Iterable):
            choices: list[Choice] = [classes] * len(seeds)
        else:
            choices = list(classes)
        if len(choices) != len(seeds):
            raise UserError(
                f"{len(choices)} classes for {len(seeds)} seeds; give one for all, or one for each"
            )
        return np.stack([label_value(label_indices(c, self.labels), self.labels) for c in choices])

    def stage(self, resolution: int | None) -> tuple[int, float | None]:
        """The resolution and alpha of an earlier stage; None: of the snapshot itself.

        Raises:
            UserError: it has not grown so far, or no power of two is meant.
        """
        at = self.resolution if resolution is None else resolution
        start = self.config.start_resolution
        stages = [r for r in resolutions_to(self.resolution) if r >= start]
        if not isinstance(at, Integral) or at not in stages:
            raise UserError(
                f"resolution {at!r} is none of this snapshot's: {', '.join(map(str, stages))}"
            )
        return int(at), self.alpha if at == self.resolution else None

    def _images(self, z: Tensor, labels: np.ndarray | None, resolution: int | None) -> np.ndarray:
        return in_batches(self.G, z, labels, *self.stage(resolution)).transpose(0, 2, 3, 1)


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """As a list.

    Raises:
        UserError: there are none, or other things among them than whole numbers from 0.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise UserError(f"seeds is {seeds!r}; give a list or a range, such as [3] or range(16)")
    numbers = list(seeds)
    wrong = [seed for seed in numbers if not isinstance(seed, Integral) or seed < 0]
    if wrong or not numbers:
        found = repr(wrong[0]) if wrong else "none"
        raise UserError(f"seeds are whole numbers from 0, at least one; got {found}")
    return [int(seed) for seed in numbers]


def label_indices(choice: Choice, labels: Labels) -> list[int]:
    """The class, or all attributes, that `choice` names.

    Raises:
        UserError: there is no such class or attribute.
    """
    text = str(choice)
    whole = labels.kind == "classes" or text in labels.names  # a name may have a comma
    words = [text] if whole else [word.strip() for word in text.split(",")]
    return sorted({label_index(word, labels) for word in words})


def label_index(name: str, labels: Labels) -> int:
    """The class or attribute of a name, or of a number where no name is one."""
    names = labels.names
    for form in (str, in_one_form):  # macOS writes é as two letters; nobody sees that
        alike = [k for k, known in enumerate(names) if form(known) == form(name)]
        if len(alike) == 1:
            return alike[0]
    numbered = any(map(NUMBER.fullmatch, names))
    if numbered:  # 1 may stand for 01 or 1.0
        same = [k for k, known in enumerate(names) if is_same_number(known, name)]
    else:
        same = [int(name)] if re.fullmatch(r"[0-9]{1,9}", name) else []
    if len(same) == 1 and same[0] < len(names):
        return same[0]
    shown = [
        known if len(known) <= 60 else f"{known[:59]}…" for known in labels.shown[:MOST_LISTED]
    ]
    known = shown if numbered else [f"{i} {known}" for i, known in enumerate(shown)]
    more = ["…"] if len(names) > MOST_LISTED else []
    raise UserError(
        f"class '{name}' is unknown{nearest(name, names)}; {labels.kind}: {', '.join(known + more)}"
    )


def in_one_form(name: str) -> str:
    """A name with each letter and its accents as one."""
    return unicodedata.normalize("NFC", name)


def is_same_number(a: str, b: str) -> bool:
    """Whether two texts are the same number, in other digits."""
    return bool(NUMBER.fullmatch(a) and NUMBER.fullmatch(b)) and Decimal(a) == Decimal(b)


def label_value(indices: list[int], labels: Labels) -> np.ndarray:
    """The label of an image: int64 [], or uint8 [K] with these attributes and no others."""
    if labels.kind == "classes":
        return np.array(indices[0])
    return np.isin(np.arange(len(labels.names)), indices).astype(np.uint8)


def to_pil(images: np.ndarray) -> list[Image.Image]:
    """uint8 [N, r, r, C], as `Snapshot.sample` returns them, to PIL images.

    Raises:
        UserError: it is something else, such as a single image.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        shape = f"{images.dtype} {list(images.shape)}"
        raise UserError(f"to_pil takes uint8 [N, r, r, C], as sample returns them; got {shape}")
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in images]
