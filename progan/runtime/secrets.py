"""Leaves passwords, keys and signatures in URLs out of all that is printed or written."""

import re
from typing import Any

HIDDEN = "REDACTED"
# A quote before a letter, or JSON's \u0026, is a part of a URL; other quotes are around it.
INNER = r"""['"](?=[\w%!$&+.~-])|\\u[0-9a-f]{4}"""
# A user with a password, which may hold "@", or a slash, as keys of S3 do. Over http, digits before
# a slash are a port, and a user without a password is a token. abfs://container@account has none.
USER = re.compile(
    rf"""(?ix) (?<=://)
    (?: (?: (?<!http://)(?<!https://) (?:[^\s/?\#@:'"<>\\]|{INNER}){{0,1000}} :
          | (?:[^\s/?\#@:'"<>\\]|{INNER}){{0,1000}} : (?!\d*[/?\#]) )
        (?: (?:[^\s/'"<>\\]|{INNER}){{0,1000}} | (?:[^\s@'"<>\\]|{INNER}){{0,1000}} ) @
      | (?: (?<=http://) | (?<=https://) ) (?:[^\s/?\#'"<>\\]|{INNER}){{1,1000}} @ )"""
)
# Over http all that follows "?" or "#"; elsewhere "?" may stand for any character of a name, and
# begins a query before `name=`, as does an escaped one. A last bracket or stop belongs to the
# sentence. Hostile texts would take minutes without the limits of length.
ESCAPED = r"%3F(?=[\w.~-]{1,100}(?:=|%3D))"
QUERY = re.compile(
    rf"""(?ix) (?: (https?://(?:(?!{ESCAPED})[^\s?\#'"<>\\]){{0,1000}}(?:[?\#]|{ESCAPED}))
      | (\?(?=[\w.~%-]+=)) )
    (?:[^\s'"<>\\]|{INNER})* [^\s'"<>\\),.;:\]}}]"""
)


def redact(text: str) -> str:
    """`text` with REDACTED in the place of user, password and query of every URL in it.

    Fit for any text: a URL, a command line, an error, a page of YAML.
    """
    text = USER.sub(f"{HIDDEN}@", text)
    return QUERY.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}", text)


def bare(url: str) -> str:
    """A URL without user, password and query: the same whatever the signature of the day."""
    return re.sub(rf"{HIDDEN}@|(?:[?#]|%3[Ff]){HIDDEN}", "", redact(url))


def is_redacted(url: str) -> bool:
    """Whether a URL lacks what `redact` left out."""
    return re.search(rf"://{HIDDEN}@|://.*(?:[?#]|%3[Ff]){HIDDEN}", url) is not None


def redacted(content: Any) -> Any:
    """Plain values with `redact` applied to every text in lists and dictionaries."""
    if isinstance(content, dict):
        return {key: redacted(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted(value) for value in content]
    return redact(content) if isinstance(content, str) else content
