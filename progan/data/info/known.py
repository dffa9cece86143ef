"""What `progan data list` says of the data sets that have a name."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from progan.data.formats import SUFFIXES
from progan.data.info.report import field
from progan.data.sources.files import ARCHIVES
from progan.data.sources.find import NAMED, Known

PATHS = {  # kinds of paths to images
    "folder": f"of images at any depth: {' '.join(SUFFIXES)}",
    "archive": f"of images, read in place: {' '.join(ARCHIVES)}",
    "numpy": "an array of images in a .npy, or with labels in a .npz",
    "LMDB": "a folder with LSUN's data.mdb",
    "shards": "WebDataset tars, such as 'shards/{000..099}.tar' or s3://bucket/*.tar",
    "prepared": "a folder that `progan data prepare` has made",
}


def known_report(root: Path, chosen: Path | None) -> Iterator[str]:
    """Known data sets, and whether they are in `root`, the user's `chosen` folder or a default."""
    yield f"Data sets with a name are looked for in {root.resolve()}"
    for name, known in NAMED.items():
        yield ""
        yield from known_set(name, known, root, chosen)
    yield ""
    yield "Else --data is a path of your own:"
    for kind, text in PATHS.items():
        yield from field(kind, text)
    yield "Labels and all else: docs/data.md"


def known_set(name: str, known: Known, root: Path, chosen: Path | None) -> Iterator[str]:
    places = known.places(root)
    found = [path for path in places if path.exists()]
    yield f"{name}: {known.what}" if known.what else name
    yield from field("needs", known.needs)
    if places:
        texts = [f"{path} (found)" if path in found else f"{path}" for path in places]
        yield from field("looks for", *texts)
    yield from field("labels", known.labels)
    if not found and places:
        get = "--download fetches it" if known.downloads else "fetch it by hand"
        yield from field("not found", get)
    command = f"progan train --data {name}"
    if chosen:
        command += " -o " + shlex.quote(f"data.root={chosen}")
    yield from field("training", command)
