"""The result of a check, as a line for people and as values for a report."""

import getpass
import os
import re
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progan.runtime.secrets import redact

GOOD, SLOW, WRONG, NOT_HERE = ("good", "slow", "wrong", "not here")
ANY_PATH = re.compile(r"(?<![\w./<])(?:~|[A-Za-z]:(?=[\\/]))?[\\/][^\s'\"<>,;:)\]]+")


@dataclass(frozen=True)
class Finding:
    """One check's result. `remedy` says what to do, if there is something to do."""

    name: str
    state: str
    says: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        return f"{self.state:<9} {self.name:<26} " + "; ".join(
            filter(None, (self.says, self.remedy))
        )


def worst(findings: list[Finding]) -> Finding:
    """The first wrong one of the processes' findings, else a slow one, else a good one."""
    order = (WRONG, SLOW, GOOD, NOT_HERE)
    return min(findings, key=lambda finding: order.index(finding.state))


def anonymous(content: Any) -> Any:
    """The same values, with paths and the names of user and host in texts replaced by `<…>`.

    Texts of errors name files, and a report is public.
    """
    if isinstance(content, dict):
        return {key: anonymous(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [anonymous(value) for value in content]
    if not isinstance(content, str):
        return content
    content = redact(content)
    for path in own_paths():
        content = content.replace(path, "<path>")
    content = ANY_PATH.sub("<path>", content)
    for kind, names in {"user": user_names(), "host": host_names()}.items():
        for name in names:
            content = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", f"<{kind}>", content)
    return content


def own_paths() -> list[str]:
    """This user's and this program's folders, which may contain blanks; the longest first."""
    folders = {*homes(), Path.cwd(), Path(sys.prefix), Path(tempfile.gettempdir())}
    folders |= {
        Path(os.environ[name])
        for name in ("PROGAN_CACHE", "XDG_CACHE_HOME")
        if os.environ.get(name)
    }
    return sorted((str(f) for f in folders if f != Path(f.anchor)), key=len, reverse=True)


def homes() -> set[Path]:
    """This user's home folder; a container's user may have none."""
    return {Path(os.path.expanduser("~"))} - {Path("~")}


def user_names() -> set[str]:
    names = {home.name for home in homes()}
    with suppress(OSError, KeyError):  # a container's user may have no name
        names.add(getpass.getuser())
    return names - {""}


def host_names() -> list[str]:
    whole = socket.gethostname()
    return [name for name in (whole, whole.partition(".")[0]) if name]
