"""Files of JSON lines, of which a power cut may have torn any."""

import json
from pathlib import Path
from typing import Any

from progan.runtime.disk import append


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The dictionaries that are whole; none if there is no file."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):  # the latter for brackets in brackets
            continue
        if isinstance(content, dict):
            found.append(content)
    return found


def append_line(file: Path, content: dict[str, Any]) -> None:
    """Add a line, also after one that is torn.

    Raises:
        DiskError, OSError: it could not be written; the file is as it was.
    """
    before = file.read_bytes() if file.exists() else b""
    torn = bool(before) and not before.endswith(b"\n")
    append(file, "\n" * torn + json.dumps(content) + "\n")
