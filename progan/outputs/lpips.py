"""LPIPS by torchmetrics, and only with the weights of VGG-16 that it is defined with.

torchmetrics because it is kept up, has the authors' linear layers, and computes roots whose
gradients are finite where features are zero, which the authors' own package does not. VGG-16
because its authors advise it for optimization, and it takes images of 16x16, AlexNet none of 32x32.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from torch import nn

from progan.metrics.inception import downloaded, place
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install
from progan.runtime.progress import Say

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"  # torchvision's, for ImageNet
SIZE = "553 MB"
SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
SMALLEST = 16  # pixels, which four poolings reduce to one


def load_lpips(file: Path | None, device: torch.device, say: Say = None) -> nn.Module:
    """A network of two batches of images [N, 3, r, r] in [-1, 1] that gives distances [N, 1, 1, 1].

    Args:
        file: weights of VGG-16; None: torchvision's, which are fetched once.
        say: says that they are about to be.

    Raises:
        UserError: torchmetrics is not installed, or the file is not there or another one.
    """
    path = file or fetched(say)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(None, "it is no file")
        with open(path, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read {path}, the weights of VGG-16 ({error.strerror}); give --lpips another "
            "file, or leave it out"
        ) from None
    if found != SHA256:
        raise UserError(
            f"{path} is not the VGG-16 that LPIPS is defined with, so it is not loaded: its "
            f"SHA-256 is {found}, not {SHA256}; give {URL.rpartition('/')[2]} from {URL}"
        )
    lpip = library()
    with cached_as(path):
        metric = lpip.LearnedPerceptualImagePatchSimilarity(net_type="vgg", reduction="none")
    return metric.net.requires_grad_(False).to(device)


def fetched(say: Say) -> Path:
    """torchvision's weights, unless the library is missing."""
    library()
    if not place(URL).exists() and say:
        say(f"LPIPS needs the weights of VGG-16: fetching {SIZE} from {URL} to {place(URL)}, once")
    return downloaded(URL, SHA256, "VGG-16", "--lpips")


def library() -> ModuleType:
    """torchmetrics' module.

    Raises:
        UserError: it is not installed.
    """
    try:
        from torchmetrics.image import lpip
    except ModuleNotFoundError:
        raise UserError(f"--loss lpips needs torchmetrics: {how_to_install('lpips')}") from None
    return lpip


@contextmanager
def cached_as(file: Path) -> Iterator[None]:
    """Inside, torch takes this file for the one that it has fetched from `URL`."""
    before = torch.hub.get_dir()
    with TemporaryDirectory() as folder:
        inside = Path(folder) / "checkpoints"
        inside.mkdir()
        (inside / place(URL).name).symlink_to(file.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
