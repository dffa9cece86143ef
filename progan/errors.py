"""The one exception for mistakes of the user's, shown as a message without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was wrong with which value, what is allowed, what to do. Exit code 2."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the allowed word nearest to `word`, or nothing."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
