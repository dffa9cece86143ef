"""Paths as users give them: in options, settings, the environment and Python."""

import os
from pathlib import Path

from progan.runtime.errors import UserError


def to_path(given: str | os.PathLike[str], what: str) -> Path:
    """The path, with `~` expanded as a shell does it; relative to the current folder.

    Args:
        what: is given, for messages: `--run-dir`, `data.cache`, `$PROGAN_CACHE`.

    Raises:
        UserError: it is no path, or empty, or begins with the home of nobody, as no folder is to be
            called `~` by mistake.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{what} is {given!r}; give a path")
    text = os.fspath(given)
    if not text or "\0" in text:
        raise UserError(f"{what} is {'empty' if not text else repr(text)}; give a path")
    path = Path(os.path.expanduser(text))
    if text.startswith("~") and path == Path(text):
        home = path.parts[0]
        raise UserError(
            f"{what}: no such path: '{text}', as {home} is no home on this machine; give the whole "
            f"path, or ./{text} if something here is called {home}"
        )
    # What is called ./~ here stays so if it is asked for again.
    return path.absolute() if path.parts[:1] and path.parts[0].startswith("~") else path
