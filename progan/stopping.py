"""SIGTERM and Ctrl-C: a request that the training loop honours, or an orderly end of other work."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopRequest:
    """A context manager: while it is open, SIGTERM and the first SIGINT only set `signal`.

    After that SIGINT acts as usual, so an impatient second Ctrl-C ends the program at once.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(*self._before)

    def _request(self, number: int, frame: object) -> None:
        self.signal = self.signal or signal.Signals(number)
        self._restore(signal.SIGINT)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            signal.signal(number, self._before[number])


@contextmanager
def ended_by_signals(line: str) -> Iterator[None]:
    """SIGTERM interrupts the work inside as Ctrl-C does; then `line` and exit code 143 or 130."""

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
