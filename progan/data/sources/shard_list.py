"""Which shards a pattern names, in which order, and what changes when their content does."""

import functools
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, NamedTuple

import fsspec

from progan.data.sources.tars import BadTar
from progan.runtime.errors import UserError, brief
from progan.runtime.secrets import bare, redact

AT_ONCE = 16  # requests: most of the time they wait for the network
WAITS = (1.0, 4.0)  # seconds before the second and the third try
MOST = 10**6  # shards
TAR = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+)$", re.IGNORECASE)
# Names that stores give a file's size, and values that change with its content.
STAMPS = ["size", "ETag", "etag", "Content-MD5", "generation", "created", "mtime", "updated"]
STAMPS += ["Last-Modified", "LastModified", "last_modified"]
# They only fetch bytes; others of fsspec run templates, unpack archives, keep copies or log in.
PROTOCOLS = (
    *("file", "local", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf"),
)
IPV6 = re.compile(r"(?<=[/@]\[)[\da-fA-F:]+(?=\][:/])")
FINAL = (FileNotFoundError, PermissionError, BadTar)  # another try would not help
BRACES = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}|\{([^{}]*,[^{}]*)\}")


class Shard(NamedTuple):
    path: str  # for its file system
    size: int
    stamp: str  # changes with the content, as far as its store can tell

    @property
    def title(self) -> str:
        """For messages."""
        return bare(self.path).rsplit("/", 1)[-1]


def explain(error: Exception) -> str:
    """An error's kind and message."""
    return redact(f"{type(error).__name__}: {brief(error)}")


def some(texts: list[str]) -> str:
    """The first three."""
    return ", ".join([*texts[:3], "…"] if len(texts) > 3 else texts)


def first_of(data: str) -> str:
    return next(expand_braces(data))


def patiently(action: Callable[..., Any], *arguments: Any) -> Any:
    """Tries three times, as networks fail; once if a file is missing, forbidden or damaged."""
    for wait in (*WAITS, None):
        try:
            return action(*arguments)
        except Exception as error:  # the clients of stores raise errors of any type
            cause = cause_of(error)
            if wait is None or isinstance(cause, FINAL):
                raise cause from None
            time.sleep(wait)


def cause_of(error: Exception) -> BaseException:
    """The true cause: whatever fails over http, fsspec says that the file was not found."""
    cause = error.__cause__
    http = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
    if isinstance(error, FileNotFoundError) and cause and http:
        return error if getattr(cause, "status", None) in (404, 410) else cause
    return error


def list_shards(data: str) -> tuple[Any, list[Shard]]:
    """The file system and the shards that `data` names.

    Braces give their order, as in bash; what `*` and `?` find is sorted.

    Raises:
        UserError: `data` is no pattern of shards; one is missing; they cannot be reached.
    """
    if not TAR.search(bare(data)):
        raise UserError(
            f"data.source: '{data}' names no shards, which are .tar files: "
            "./shard-{000..099}.tar, s3://bucket/train/*.tar, https://host/one.tar"
        )
    try:
        fs = open_store(first_of(data))[0]
        paths = find_paths(fs, data)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(functools.partial(look_at, fs), paths))
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"data.source: '{data}' needs another package: {brief(error)} (`pip install s3fs` for "
            "s3://, `gcsfs` for gs://, `aiohttp` for http://)"
        ) from error
    except Exception as error:  # as in `patiently`
        raise UserError(f"data.source: cannot list '{data}' ({explain(error)})") from None
    if missing := [why for why in found if isinstance(why, str)]:
        raise UserError(
            f"data.source: {len(missing)} of {len(paths)} shards cannot be read: {some(missing)}"
        )
    return fs, [shard for shard in found if isinstance(shard, Shard)]


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL or path without braces, and its path there.

    Raises:
        ValueError: it has an address in brackets that is none.
        UserError: it is a chain of protocols, or of one that does more than fetch bytes: a config
            may come from anybody.
    """
    url = re.sub(r"^\w+(?=://)", lambda match: match[0].lower(), url)  # HTTPS://, as some copy it
    url = IPV6.sub(lambda match: ip_address(match[0]).exploded, url)  # without '::'
    protocol = fsspec.core.split_protocol(url)[0]
    if "::" in url or protocol not in (None, *PROTOCOLS):
        raise UserError(
            f"data.source: '{url}' is not read: shards lie in folders or come by one of "
            f"{', '.join(PROTOCOLS)}, without '::'; give their own address, or download them"
        )
    return fsspec.core.url_to_fs(url)


def expand_braces(pattern: str) -> Iterator[str]:
    """`a-{08..10}-{x,y}` as in bash: a-08-x, a-08-y, a-09-x, …

    Raises:
        UserError: they are nested, or too many.
    """
    parts = BRACES.split(pattern)  # text, first, last, list, text, first, …
    if re.search("[{}]", "".join(parts[::4])):
        raise UserError(
            f"data.source: braces in '{pattern}' hold a range {{000..099}} or a list {{a,b}}, "
            "closed and not nested"
        )
    choices = [parts[:1]]
    for first, last, words, text in zip(*(parts[k::4] for k in (1, 2, 3, 4)), strict=True):
        choices += [words.split(",") if words else count(first, last), [text]]
    if math.prod(map(len, choices)) > MOST:
        raise too_many(pattern)
    return map("".join, itertools.product(*choices))


def count(first: str, last: str) -> list[str]:
    """`08`, `11` to 08, 09, 10, 11: of one width if one of them begins with a zero."""
    a, b = int(first), int(last)
    step = 1 if a <= b else -1
    padded = any(len(text) > 1 and text[0] == "0" for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [str(n).zfill(width) for n in range(a, b + step, step)[: MOST + 1]]


def find_paths(fs: Any, data: str) -> list[str]:
    """Paths on their file system, each once. Raises UserError if there are none, or too many."""
    paths: dict[str, None] = {}
    for pattern in expand_braces(data):
        path = open_store(pattern)[1]
        magic = r"\*" if path.startswith("http") else r"[*?]"  # there "?" begins a query
        found = sorted(fs.glob(path)) if re.search(magic, path) else [path]
        paths |= dict.fromkeys(found)
    if not paths:
        raise UserError(f"data.source: no shard matches '{data}'")
    if len(paths) > MOST:
        raise too_many(data)
    return list(paths)


def too_many(data: str) -> UserError:
    return UserError(f"data.source: '{data}' names more than {MOST:,} shards")


def look_at(fs: Any, path: str) -> Shard | str:
    """The shard, or its name and why it is none. Other errors concern the whole store."""
    title = Shard(path, 0, "").title
    try:
        info = patiently(fs.info, path)
    except FileNotFoundError:
        return f"{title} (not found)"
    if info.get("type") == "directory":
        return f"{title} (a folder)"
    if info.get("type") == "other":
        return f"{title} (a pipe or a device)"
    if not isinstance(info.get("size"), int):
        return f"{title} (its store does not say its size)"
    return Shard(path, info["size"], repr([str(info.get(name)) for name in STAMPS]))
