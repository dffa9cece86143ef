"""Which shards a pattern names, in which order, and what tells one version of them from another."""

import functools
import itertools
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import fsspec

from progan.runtime.errors import UserError, brief

AT_ONCE = 16  # requests; what takes time is the network
WAITS = (1.0, 4.0)  # seconds before the second and the third try
MOST = 10**6  # shards
TAR = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+)$", re.IGNORECASE)
# What stores call a file's size, and what changes with its content.
STAMPS = ["size", "ETag", "etag", "Content-MD5", "generation", "created", "mtime", "updated"]
STAMPS += ["Last-Modified", "LastModified", "last_modified"]


class Shard(NamedTuple):
    path: str  # for its file system
    size: int
    stamp: str  # changes with the content, as far as its store can tell

    @property
    def title(self) -> str:
        """For messages: not the query of a URL, which may hold secrets."""
        return without_query(self.path).rsplit("/", 1)[-1]


def without_query(url: str) -> str:
    return url.partition("?")[0] if url.startswith("http") else url


def told(error: Exception) -> str:
    """An error's kind and message, without the queries of URLs."""
    return re.sub(r"[?][^\s)]*", "?…", f"{type(error).__name__}: {brief(error)}")


def first_of(data: str) -> str:
    return next(expand_braces(data))


def patiently(action: Callable[..., Any], *arguments: Any) -> Any:
    """Three tries, for networks. What is not there or not allowed will not change."""
    for wait in (*WAITS, None):
        try:
            return action(*arguments)
        except Exception as error:  # the clients of stores raise errors of any type
            cause = _cause(error)
            if wait is None or isinstance(cause, (FileNotFoundError, PermissionError)):
                raise cause from None
            time.sleep(wait)


def _cause(error: Exception) -> Exception:
    """Of whatever goes wrong over http, fsspec says that the file was not found."""
    cause = error.__cause__
    http = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
    if isinstance(error, FileNotFoundError) and http:
        return error if getattr(cause, "status", None) in (404, 410) else cause
    return error


def list_shards(data: str) -> tuple[Any, list[Shard]]:
    """The file system and the shards that `data` names.

    Braces give their order, as in bash; what `*` and `?` find is sorted. UserError if it is no
    pattern of shards, if one is missing, if they cannot be reached.
    """
    if not TAR.search(without_query(data)):
        raise UserError(
            f"data.source: '{data}' names no shards, which are .tar files: "
            "./shard-{000..099}.tar, s3://bucket/train/*.tar, https://host/one.tar"
        )
    try:
        fs = fsspec.core.url_to_fs(first_of(data))[0]
        paths = _paths(fs, data)
        if not paths:
            raise UserError(f"data.source: no shard matches '{data}'")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(functools.partial(_look, fs), paths))
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"data.source: '{data}' needs another package: {brief(error)} (`pip install s3fs` for "
            "s3://, `gcsfs` for gs://, `aiohttp` for http://)"
        ) from error
    except Exception as error:  # as in `patiently`
        raise UserError(
            f"data.source: cannot list '{without_query(data)}' ({told(error)})"
        ) from error
    if missing := [text for text in found if isinstance(text, str)]:
        raise UserError(
            f"data.source: {len(missing)} of {len(paths)} shards cannot be read: "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
        )
    return fs, found


def expand_braces(pattern: str) -> Iterator[str]:
    """`a-{08..10}-{x,y}` as in bash: a-08-x, a-08-y, a-09-x, … UserError if they are nested."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    before, after = (pattern[: match.start()], pattern[match.end() :]) if match else (pattern, "")
    choices = _choices(match[1]) if match else [""]
    if re.search("[{}]", before) or not choices:
        raise UserError(
            f"data.source: braces in '{pattern}' hold a range {{000..099}} or a list {{a,b}}, "
            "closed and not nested"
        )
    if not match:
        yield pattern
        return
    for choice in choices:
        for rest in expand_braces(after):
            yield before + choice + rest


def _choices(inside: str) -> list[str]:
    """What a pair of braces stands for; nothing if it is neither a range nor a list."""
    if bounds := re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", inside):
        first, last = int(bounds[1]), int(bounds[2])
        step = 1 if first <= last else -1
        width = max(len(bounds[1]), len(bounds[2]))
        padded = any(len(text) > 1 and text[0] == "0" for text in bounds.groups())
        numbers = range(first, last + step, step)[: MOST + 1]
        return [f"{n:0{width}d}" if padded else str(n) for n in numbers]
    return inside.split(",") if "," in inside else []


def _paths(fs: Any, data: str) -> list[str]:
    """On their file system, each once."""
    paths: dict[str, None] = {}
    for pattern in itertools.islice(expand_braces(data), MOST + 1):
        path = fsspec.core.url_to_fs(pattern)[1]
        magic = r"\*" if path.startswith("http") else r"[*?]"  # there "?" begins a query
        found = sorted(fs.glob(path)) if re.search(magic, path) else [path]
        paths |= dict.fromkeys(found)
    if len(paths) > MOST:
        raise UserError(f"data.source: '{data}' names more than {MOST:,} shards")
    return list(paths)


def _look(fs: Any, path: str) -> Shard | str:
    """The shard, or its name and why it is none. Other errors are those of the whole store."""
    title = Shard(path, 0, "").title
    try:
        info = patiently(fs.info, path)
    except FileNotFoundError:
        return f"{title} (not found)"
    if info.get("type") == "directory":
        return f"{title} (a folder)"
    if not isinstance(info.get("size"), int):
        return f"{title} (its store does not tell its size)"
    return Shard(path, info["size"], repr([str(info.get(name)) for name in STAMPS]))
