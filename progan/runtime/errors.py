"""The exceptions for users' mistakes, and words for their messages."""

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any

from progan.runtime.secrets import redact, redacted

SHORT = reprlib.Repr()
SHORT.maxlevel = 2


class UserError(ValueError):
    """A user's mistake: which value is wrong, what is allowed, what to do. Exit code 2.

    Its message shows no secrets of URLs.
    """

    def __init__(self, message: str):
        super().__init__(redact(message))


class LostProcessError(UserError):
    """Another process is lost. All print it, as the one that usually prints may be lost."""


class LabelError(UserError):
    """The data has no labels, or wrong ones; training without labels is possible."""


def shown(value: Any) -> str:
    """A value in a message, without secrets of URLs, cut short where it is long or deep."""
    return SHORT.repr(redacted(value))


def nearest(word: str, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """``" (did you mean 'x'?)"`` for the allowed word nearest to `word`, or nothing."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=cutoff)
    return f" (did you mean '{match[0]}'?)" if match else ""


def brief(error: Exception) -> str:
    """The first line of an error's message, without the secrets of URLs and objects' addresses."""
    lines = str(error).splitlines() or [type(error).__name__]
    lacks = "it lacks " if isinstance(error, KeyError) else ""  # its message is the key alone
    line = re.sub(r" ?<[\w.]+ object at 0x[0-9a-f]+>", "", lines[0])
    return redact(lacks + line)[:200]
