"""Which images are thumbnails of others, by their places and names."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from progan.data.sources.label_folders import FILES, IMAGES, SIZE, is_made_of
from progan.data.sources.names import is_image

ODD = re.compile("[@#$~].*")  # folders that programs name so
THUMBS = re.compile(r"(.*?)[-_. ]?(thumb(nail)?s?|_?previews?)", re.IGNORECASE)
# Folders with originals, next to one of thumbnails: `images`, `full`, `images1024x1024`.
WHOLE = re.compile(r"full|large|big|hi(gh)?|res(olution)?|size[ds]?|orig(inal)?s?|masters?")
# a.jpg as programs reduce it: a-150x150.jpg (WordPress), a_thumb.jpg, tn_a.jpg
MARKED = re.compile(
    r"(.+)[-_.](?:\d{1,5}x\d{1,5}(?:@\dx)?|thumb(?:nail)?s?)|(?:thumb(?:nail)?|tn)[-_.](.+)",
    re.IGNORECASE,
)


def thumbnails(names: Sequence[str]) -> list[int]:
    """Indices of the images that are thumbnails of others by their place, whatever their suffix.

    That is in a folder with the name of an image that lies elsewhere (`@x/a.jpg/large.jpg`); in one
    for thumbnails (`thumbs/a.jpg`), next to the image of the same name or to a folder for images
    that has it (`images/a.jpg`); or next to it with a mark in its name (`a-150x150.jpg`).
    """
    split = [name.rpartition("/")[::2] for name in names]
    folders = {folder for folder, _ in split}
    like_images = {f: set(filter(is_image, f.split("/"))) for f in folders}
    named = set().union(*like_images.values())
    small = {f for f in folders if any(map(is_small, f.split("/")))}
    if not named and not small and not any(MARKED.fullmatch(stem(last)) for _, last in split):
        return []  # most often
    originals = {last for f, last in split if last in named and not like_images[f]}
    beside = Beside(folders)
    places = {f: set(originals_of(f, beside)) for f in small}
    there = {(folder, stem(last)) for folder, last in split}

    def has_original(folder: str, name: str) -> bool:
        wanted = [(folder, other) for other in unmarked(name)]
        if folder in small:
            alike = [stem(name), stem(stem(name)), *unmarked(name)]
            wanted += [(place, other) for place in places[folder] for other in alike]
        return not there.isdisjoint(wanted)

    return [
        i
        for i, (folder, name) in enumerate(split)
        if like_images[folder] & originals or has_original(folder, name)
    ]


def stem(name: str) -> str:
    """A name without the suffix of an image; other ones belong to it."""
    return os.path.splitext(name)[0] if is_image(name) else name


def unmarked(name: str) -> list[str]:
    """The original's name, if this is one of a thumbnail. Both without suffixes."""
    match = MARKED.fullmatch(stem(name))
    return [match[1] or match[2]] if match else []


def is_small(folder: str) -> bool:
    """Whether a folder has the name of one for thumbnails."""
    return bool(ODD.fullmatch(folder) or THUMBS.fullmatch(SIZE.sub("", folder)))


class Beside:
    """What folders lie next to each other: some data sets have thousands in one."""

    def __init__(self, folders: Iterable[str]) -> None:
        self.within: dict[str, set[str]] = {}
        for folder in folders:
            while folder:
                folder, _, last = folder.rpartition("/")
                self.within.setdefault(folder, set()).add(last)
        self.whole: dict[str, list[str]] = {}

    def with_originals(self, parent: str, name: str) -> list[str]:
        """Folders in `parent` with originals: the one of this name, else those for images."""
        if name in self.within[parent]:
            return [name]
        if parent not in self.whole:
            those = (each for each in self.within[parent] if is_made_of(each, IMAGES, FILES, WHOLE))
            self.whole[parent] = list(those)
        return self.whole[parent]


def originals_of(folder: str, beside: Beside) -> Iterator[str]:
    """Folders in which the originals of the thumbnails in a folder may lie."""
    parts = folder.split("/")
    if ODD.fullmatch(parts[-1]):
        yield "/".join(parts[:-1])
    for k, part in enumerate(parts):
        if match := THUMBS.fullmatch(SIZE.sub("", part)):
            before, after = parts[:k], parts[k + 1 :]
            yield "/".join(before + after)
            for other in beside.with_originals("/".join(before), match[1]):
                yield "/".join([*before, other, *after])
