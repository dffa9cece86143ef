"""Opens a file of another project, or says what else it is."""

import os
from pathlib import Path
from typing import Any

from progan.interop.imported import PROJECTS
from progan.interop.pickles import PickleReader
from progan.interop.torch_files import is_torch, read_torch
from progan.runs.folder import CONFIG
from progan.runs.which_snapshot import MOST_BYTES
from progan.runtime.errors import UserError, brief
from progan.runtime.pickles import UnknownNameError
from progan.runtime.text import human_bytes, printable

START = 64  # bytes that say what kind of file it is
BLANK = b"\xef\xbb\xbf \t\r\n"  # before a text, with the mark that some editors put there
IMAGE = "is an image, not weights"
STARTS = {  # of files that are no weights of these projects, or not yet
    b"\x08": "is a graph, such as ONNX's, which is not read; give the weights that training wrote",
    b"\x89HDF": "is an HDF5 file, which none of these projects writes",
    b"\x93NUMPY": "is an array of NumPy, which none of these projects writes",
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF"), IMAGE),
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"7z\xbc\xaf": "is a 7z archive; unpack it first",
    b"Rar!": "is a RAR archive; unpack it first",
    b"version https://git-lfs": "only stands for the file, which git lfs pull fetches",
    b"<": "is a web page, not weights; open the download's address in a browser",
}
STYLEGAN = ("dnnlib", "torch_utils", "training.networks")  # its modules
ALL = ", ".join(PROJECTS.values())


def read_content(path: Path) -> Any:
    """Plain data and arrays in a file.

    Raises:
        UserError: it is no weight file of another project.
    """
    if not path.is_file():  # a pipe would be waited for
        what = "is a pipe or a device; give a file" if path.exists() else "is not there"
        if (path / CONFIG).is_file():
            what = "is a run of progan, which needs no import: progan sample takes it"
        elif path.is_dir():
            what = "is a folder; give the file in it"
        raise UserError(f"{path} {what}")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(START)
        file.seek(0)
        if why := no_weights(start, size):
            raise UserError(f"{path} {why}")
        try:
            return read_torch(file) if is_torch(start) else PickleReader(file, size).build()
        except UnknownNameError as error:
            raise UserError(f"{path}: {about_name(error)}") from None
        except Exception as error:  # whatever damage makes the reader raise
            why = text_in(start) or (brief(error) if type(error) is ValueError else "")
            raise UserError(
                f"{path} ({human_bytes(size)}) cannot be read as a file of weights"
                + f" ({why})" * bool(why)  # else it is in Python's words
                + f"; is the download whole? progan reads ProGANs of {ALL}"
            ) from None


def no_weights(start: bytes, size: int) -> str:
    """What else a file is, by its first bytes and size; empty if it may be of these projects."""
    if not start:
        return "is empty; get it again"
    if start[8:9] == b"{" and b"__metadata__" in start or start[8:10] == b'{"':
        return (
            "is a safetensors file, which none of these projects writes; a snapshot of progan "
            "needs no import: progan sample takes it"
        )
    begun = start.lstrip(BLANK)
    if what := next((what for own, what in STARTS.items() if begun.startswith(own)), ""):
        return what
    if size > MOST_BYTES:
        return f"has {human_bytes(size)}; progan reads {human_bytes(MOST_BYTES)} at most"
    return ""


def about_name(error: UnknownNameError) -> str:
    """Why a file is refused that names what is not on the list."""
    if error.name.startswith(STYLEGAN):
        return "this is a StyleGAN2 network (or one of its family); progan reads ProGANs"
    if error.name.startswith("torch.nn.modules"):
        return (
            "it holds a whole module, whose code progan does not run; save its weights alone: "
            "torch.save(module.state_dict(), FILE)"
        )
    if error.name.endswith("Storage"):
        return f"{error}: its numbers are of another type than weights"
    return f"{error}, as a file may name code that harms; progan reads ProGANs of {ALL}"


def text_in(start: bytes) -> str:
    """That a file is a text, such as a server's answer in place of it; empty if it is none."""
    text = start.decode(errors="ignore").strip()
    if not text or "\ufffd" in text or not text.replace("\n", " ").replace("\r", " ").isprintable():
        return ""
    return f'it is a text: "{printable(text.splitlines()[0])}"'
