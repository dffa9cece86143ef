"""Leaves passwords, keys and signatures out of all that is printed or written."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "REDACTED"
# A quote before a letter, or JSON's \u0026, is a part of a URL; other quotes are around it.
INNER = r"""['"](?=[\w%!$&+.~-])|\\u[0-9a-f]{4}"""
# A user with a password, which may hold "@", or a slash, as keys of S3 do. Over http, digits before
# a slash are a port, and a user without a password is a token. abfs://container@account has none.
USER = re.compile(
    rf"""(?ix) (?<=://)
    (?: (?: (?<!http://)(?<!https://) (?:[^\s/?\#@:'"<>\\]|{INNER}){{0,1000}} :
          | (?:[^\s/?\#@:'"<>\\]|{INNER}){{0,1000}} : (?!\d*[/?\#]) )
        (?: (?:[^\s/'"<>\\]|{INNER}){{0,1000}} | (?:[^\s@'"<>\\]|{INNER}){{0,1000}} ) (?:@|%40)
      | [^\s/?\#@:'"<>\\]{{1,100}} : (?!\d*\W) [^\s/@'"<>\\]+ (?:[ ][^\s/@'"<>\\]+){{1,3}} @(?=\w)
      | (?: (?<=http://) | (?<=https://) ) (?:[^\s/?\#'"<>\\]|{INNER}){{1,1000}} @ )"""
)
# Over http all that follows "?" or "#"; elsewhere "?" may stand for any character of a name, and
# begins a query before `name=`, as do "#" and escaped ones. A last bracket or stop belongs to the
# sentence. Hostile texts would take minutes without the limits of length.
ESCAPED = r"%(?:3F|23)(?=[\w.~-]{1,100}(?:=|%3D))"
QUERY = re.compile(
    rf"""(?ix) (?: (https?://(?:(?!{ESCAPED})[^\s?\#'"<>\\]){{0,1000}}(?:[?\#]|{ESCAPED}))
      | ((?:\?|(?<=\S)\#)(?=[\w.~%-]+=)) )
    (?:[^\s'"<>\\]|{INNER})* [^\s'"<>\\),.;:\]}}]"""
)
# Over http `;name=value` and `&name=value` in the path, up to the next slash.
PATH = re.compile(r"""(?i)https?://[^\s?\#'"<>\\]+""")
PARAMETER = re.compile(r"(?i)([;&]|%3B)(?=[\w.~-]{1,100}(?:=|%3D))(?:(?!%3B)[^/;&])*[^/;&),.:\]}]")
MARK = rf"(?:[?#;&]|%(?:3[FB]|23)){HIDDEN}"
# URLs in other spellings, how to spell them plainly, and back: escaped in a query, or in JSON.
Spell = Callable[[str], str]
SPELLINGS: tuple[tuple[re.Pattern[str], Spell, Spell], ...] = (
    (
        re.compile(r"""(?i)\b\w{1,20}%3A%2F%2F[^\s'"<>\\&]+"""),
        unquote,
        lambda url: quote(url, safe=""),
    ),
    (
        re.compile(r"""\b\w{1,20}:\\/\\/[^\s'"<>]+"""),
        lambda url: url.replace("\\/", "/"),
        lambda url: url.replace("/", "\\/"),
    ),
)
# Keys outside of URLs, by their names. No part of a path is one: `/data/password=1` is a folder.
KEY = re.compile(
    r"""(?x) ( \bBearer\s+ | (?i:\bauthorization ['"]?\s*[:=]\s* ['"]? \w+ \s+)
      | (?i:(?<![\w/]) (?:\w{1,40}[_-])? (?:(?:api|access|account|secret) [_-]?key (?:[_-]?id)?
          | client[_-]?secret | passw(?:or)?d | (?:access|auth|session|hf)[_-]?token)
        ['"]? \s*[=:]\s* ['"]?) )
    [^\s'"<>,;&)]{4,}"""
)


def redact(text: str) -> str:
    """`text` with REDACTED in the place of user, password, parameters and query of every URL in it,
    and of what is called a key, a token or a password.

    Fit for any text: a URL, a command line, an error, a page of YAML.
    """
    for pattern, plain, spelled in SPELLINGS:
        text = pattern.sub(partial(respelled, plain, spelled), text)
    text = KEY.sub(rf"\1{HIDDEN}", text)
    text = USER.sub(f"{HIDDEN}@", text)
    text = QUERY.sub(lambda match: f"{match[1] or match[2]}{HIDDEN}", text)
    return PATH.sub(lambda path: PARAMETER.sub(rf"\1{HIDDEN}", path[0]), text)


def respelled(plain: Spell, spelled: Spell, found: re.Match[str]) -> str:
    """A URL in another spelling, redacted; as it was if it has no secrets."""
    url = plain(found[0])
    shown = redact(url)
    return found[0] if shown == url else spelled(shown)


def bare(url: str) -> str:
    """A URL without what `redact` leaves out: the same whatever the signature of the day."""
    return re.sub(rf"(?i){HIDDEN}(?:@|%40)|{MARK}", "", redact(url))


def is_redacted(url: str) -> bool:
    """Whether a URL lacks what `redact` left out."""
    return re.search(rf"(?i)://{HIDDEN}@|://.*{MARK}", url) is not None


def redacted(content: Any) -> Any:
    """Plain values with `redact` applied to every text in lists and dictionaries, keys as well."""
    if isinstance(content, dict):
        pairs = content.items()
        return {redact(k) if isinstance(k, str) else k: redacted(value) for k, value in pairs}
    if isinstance(content, list | tuple):
        return [redacted(value) for value in content]
    return redact(content) if isinstance(content, str) else content
