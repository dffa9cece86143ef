"""Paths as users give them: in options, settings, the environment and Python."""

import os
import re
from pathlib import Path

from progan.runtime.errors import UserError

# Suffixes that nobody gives to a folder on purpose.
OF_A_FILE = re.compile(
    r"\.(apng|avi|avif|bmp|csv|gif|gz|heic|html?|jpe?g|jsonl?|md|mkv|mov|mp4|np[yz]|onnx|pdf|pickle|pkl"
    r"|png|pth?|pt2|safetensors|svg|tar|tgz|tiff?|txt|web[mp]|ya?ml|zip)"
)
LONGEST = 255  # bytes of a name in nearly all file systems


def to_path(given: str | os.PathLike[str], what: str) -> Path:
    """The path, with `~` expanded as a shell does it; relative to the current folder.

    Args:
        what: is given, for messages: `--run-dir`, `data.cache`, `$PROGAN_CACHE`.

    Raises:
        UserError: it is no path, or empty, or a URL, or has line breaks or too long a name, or
            begins with the home of nobody: no folder is to be called `s3:` or `~` by mistake.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{what} is {given!r}; give a path")
    text = os.fspath(given)
    if not text or "\0" in text or not can_be_encoded(text):
        raise UserError(f"{what} is {'empty' if not text else repr(text)}; give a path")
    if set(text) & {"\n", "\r"}:  # no message, and no command in one, could show it
        raise UserError(f"{what} is {text!r}; give a path without line breaks")
    if re.match(r"\w[\w+.-]+://", text):
        raise UserError(f"{what} is {text}; give a path on this machine, as no URL is possible")
    path = Path(os.path.expanduser(text))
    for part in path.parts:
        size = len(os.fsencode(part))
        if size > LONGEST and "{" not in part:  # in a pattern of shards, many names
            raise UserError(
                f"{what} has a name of {size} bytes, '{part[:20]}…'; the name of a file or folder "
                f"may take {LONGEST}"
            )
    if text.startswith("~") and path == Path(text):
        home = path.parts[0]
        raise UserError(
            f"{what}: no such path: '{text}', as {home} is no home on this machine; give the whole "
            f"path, or ./{text} if something here is called {home}"
        )
    # What is called ./~ here stays so if it is asked for again, and ./-x is no option.
    return path.absolute() if path.parts[:1] and path.parts[0].startswith(("~", "-")) else path


def check_new_folder(folder: Path, what: str) -> None:
    """Refuses to make a folder whose name is that of a file, such as `faces.mp4`.

    Args:
        what: it is given as, for the message: `--out`.

    Raises:
        UserError: there is no such folder yet, and its name has such a suffix.
    """
    suffix = folder.suffix.lower()
    if OF_A_FILE.fullmatch(suffix) and not folder.exists():
        raise UserError(
            f"{what} {folder}: a folder is made here, not a {suffix} file; leave out {suffix}"
        )


def names_beside(path: Path) -> list[str]:
    """The names of files and folders where a path was looked for; none if they cannot be listed."""
    try:
        return os.listdir(path.parent)
    except (OSError, ValueError):
        return []


def can_be_encoded(text: str) -> bool:
    """Whether a text can be a path: halves of surrogate pairs cannot, as YAML may write them."""
    try:
        return bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False
