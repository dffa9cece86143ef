"""Requests to stop: signals, a time limit or a file."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

LOOK = 1.0  # seconds between checks for the stop file, which may be on a network


class StopRequest:
    """A context manager; inside, SIGTERM and the first SIGINT only set `signal`.

    Then SIGINT acts as usual: an impatient second Ctrl-C ends the program at once.

    Args:
        file: stop when it appears; removed then, so that the next start goes on.
        max_hours: stop this long after `start`.
        start: a time of `time.time()`.
    """

    def __init__(
        self, file: Path | None = None, max_hours: float | None = None, start: float = 0.0
    ) -> None:
        self.signal: signal.Signals | None = None
        self.file = file
        self.max_hours = max_hours
        self.start = start
        self.looked = time.time()
        self.seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        main = threading.current_thread() is threading.main_thread()  # no other may have handlers
        for number in (signal.SIGTERM, signal.SIGINT) if main else ():
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(*self._before)

    def reason(self) -> str | None:
        """Why to stop, or `None`. Called after every update, so it is quick."""
        if self.signal:
            return self.signal.name
        now = time.time()
        if self.max_hours is not None and now - self.start > 3600 * self.max_hours:
            return f"--max-hours {self.max_hours:g}"
        if self.file and not self.seen and now - self.looked > LOOK:
            self.looked = now
            with suppress(OSError):  # a network folder may be out of reach for a moment
                self.seen = self.file.exists()
                if self.seen:
                    self.file.unlink(missing_ok=True)
        return f"the file {self.file}" if self.seen else None

    def _request(self, number: int, frame: object) -> None:
        self.signal = self.signal or signal.Signals(number)
        self._restore(signal.SIGINT)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            signal.signal(number, self._before[number])


@contextmanager
def ended_by_signals(line: str) -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C end the work, print `line` and exit with code 143 or 130."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as stop:
        print(f"\n{line}", file=sys.stderr)
        sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
    finally:
        signal.signal(signal.SIGTERM, before)
