"""Standard output and standard error, as everything prints to them.

Nothing that is printed can control the terminal. If standard output is gone (`| head` has ended,
the terminal is closed), a command ends as Unix tools do. A run goes on, and keeps in a file of its
folder what could not be printed.
"""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from progan.runtime.disk import append
from progan.runtime.errors import UserError
from progan.runtime.secrets import redact

MOST_KEPT = 100_000  # characters that wait until the file can be written
# C0, C1, marks that reorder or break lines, and bytes that are no text. A carriage return passes at
# the beginning, where progress bars write it, and before a newline.
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    "|(?<!^)\r(?!\n)"
)


def harmless(text: str) -> str:
    """`text` without secrets in URLs, and with escapes for characters that control the terminal."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], redact(text))


class Unprinted:
    """What could not be printed: in memory, then in a file."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.text = ""
        self.reasons: set[str] = set()

    def add(self, text: str, reason: str) -> None:
        """Keep `text`, and each reason why it could not be printed once."""
        if reason not in self.reasons:
            self.reasons.add(reason)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.text += f"{now}: {reason}; what it does not show is kept here\n"
        self.text = (self.text + text)[-MOST_KEPT:]
        self.keep()

    def keep(self, file: Path | None = None) -> None:
        """Write what there is to the file, which may be given once and for all."""
        self.file = file or self.file
        with suppress(UserError, OSError):  # a full disk, perhaps: at the next time
            if self.file and self.text:
                append(self.file, self.text)
                self.text = ""


class Output:
    """A text stream in front of `stream`, which may fail.

    Args:
        name: for messages.
        needed: whether a command ends if this cannot be written.
    """

    def __init__(self, stream: TextIO, name: str, needed: bool) -> None:
        self.stream = stream
        self.name = name
        self.needed = needed
        self.unprinted: Unprinted | None = None  # given: no failure ends anything

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # what is written there would come out as it is
            raise AttributeError(name)
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        shown = harmless(text)
        try:
            if shown:  # else click's question whether this takes text would meet a full disk
                self.stream.write(shown)
            if "\n" in shown:  # else a failure would not appear here, but later
                self.stream.flush()
        except (OSError, ValueError) as error:  # the latter if it is closed
            self.failed(error, shown)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.failed(error, "")

    def failed(self, error: Exception, text: str) -> None:
        """Go on without printing `text`, or end the command."""
        reason = f"{self.name} cannot be written: {getattr(error, 'strerror', None) or error}"
        if self.unprinted:
            frame = text.startswith("\r")  # of a progress bar
            return self.unprinted.add("" if frame else text, reason)
        # What its buffer still has would fail again when Python ends.
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())
        if self.needed and isinstance(error, OSError) and error.errno == errno.EPIPE:
            sys.exit(141)  # 128 + SIGPIPE
        if self.needed:
            raise UserError(reason) from error


def guard_output() -> None:
    """Put an `Output` in front of standard output and standard error, unless one is there.

    Standard streams that are closed (`>&-`) become /dev/null, as the next file opened would
    otherwise take their number, and receive what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if not isinstance(sys.stdout, Output):
        sys.stdout = Output(opened(sys.stdout), "standard output", needed=True)
    if not isinstance(sys.stderr, Output):
        sys.stderr = Output(opened(sys.stderr), "standard error", needed=False)


def opened(stream: TextIO | None) -> TextIO:
    """The stream, able to write any text; /dev/null if it was closed when Python started."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):  # the locale may have no word for it
        stream.reconfigure(errors="backslashreplace")
    return stream


def outlive_output() -> None:
    """From now on no failed print ends or changes anything; `keep_unprinted` keeps what is lost."""
    guard_output()
    unprinted = Unprinted()
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, Output)
        stream.unprinted = unprinted


def keep_unprinted(file: Path) -> None:
    """Write to `file` what could not and cannot be printed, after `outlive_output`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output) and stream.unprinted:
            stream.unprinted.keep(file)


@contextmanager
def output_outlived() -> Iterator[None]:
    """`outlive_output` for the time of a call from Python."""
    before = sys.stdout, sys.stderr
    outlive_output()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
