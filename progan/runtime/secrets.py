"""Leaves passwords, keys and signatures in URLs out of all that is printed or written."""

import re
from typing import Any

HIDDEN = "REDACTED"
# A user with a password, which may hold "@", or a slash, as keys of S3 do. Over http, digits before
# a slash are a port, and a user without a password is a token. abfs://container@account has none.
USER = re.compile(
    r"""(?ix) (?<=://)
    (?: (?: (?<!http://)(?<!https://) [^\s/?\#@:'"<>\\]{0,1000} :
          | [^\s/?\#@:'"<>\\]{0,1000} : (?!\d*[/?\#]) )
        (?: [^\s/'"<>\\]{0,1000} | [^\s@'"<>\\]{0,1000} ) @
      | (?: (?<=http://) | (?<=https://) ) [^\s/?\#'"<>\\]{1,1000} @ )"""
)
# Over http all that follows "?" or "#"; elsewhere "?" may stand for any character of a name, and
# begins a query before `name=`. A last bracket or stop belongs to the sentence. Hostile texts would
# take minutes without the limits of length.
QUERY = re.compile(
    r"""(?ix) (?: (https?://[^\s?\#'"<>\\]{0,1000}[?\#]) | (\?(?=[\w.~%-]+=)) )"""
    r"""[^\s'"<>\\]* [^\s'"<>\\),.;:\]}]"""
)


def redact(text: str) -> str:
    """`text` with REDACTED in the place of user, password and query of every URL in it.

    Fit for any text: a URL, a command line, an error, a page of YAML.
    """
    text = USER.sub(f"{HIDDEN}@", text)
    return QUERY.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}", text)


def bare(url: str) -> str:
    """A URL without user, password and query: the same whatever the signature of the day."""
    return re.sub(rf"{HIDDEN}@|[?#]{HIDDEN}", "", redact(url))


def is_redacted(url: str) -> bool:
    """Whether a URL lacks what `redact` left out."""
    return re.search(rf"://{HIDDEN}@|://.*[?#]{HIDDEN}", url) is not None


def redacted(content: Any) -> Any:
    """Plain values with `redact` applied to every text in lists and dictionaries."""
    if isinstance(content, dict):
        return {key: redacted(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted(value) for value in content]
    return redact(content) if isinstance(content, str) else content
