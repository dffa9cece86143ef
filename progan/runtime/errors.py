"""Mistakes of the user's: the one exception for them, and words for their messages."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was wrong with which value, what is allowed, what to do. Exit code 2."""


class LostProcessError(UserError):
    """Another process is lost: any process tells, as the one that usually does may be that one."""


class LabelError(UserError):
    """The data has no labels, or wrong ones; the remedy that it names is to do without."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the allowed word nearest to `word`, or nothing."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def brief(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
