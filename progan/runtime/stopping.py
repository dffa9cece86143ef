"""Requests to stop: signals, a time limit or a file."""

import atexit
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from progan.runtime.errors import UserError

AGAIN = 1.0  # seconds after the first signal; before, it is the same one, as `timeout` sends two
LOOK = 1.0  # seconds between checks for the stop file, which may be on a network
# By these a process is asked to end: by a user, a terminal that closes, batch systems before a time
# limit, a machine that loses power. SIGQUIT ends at once, as its senders mean it.
ENDINGS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGPWR", "SIGBREAK")
    if hasattr(signal, name)
]


def taken() -> list[signal.Signals]:
    """Signals to take: SIGINT, SIGTERM, and those of the others that would end this process.

    Not those that are ignored, as nohup does with SIGHUP, or that a caller of ours handles. Empty
    in threads other than the main one, which alone may have handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    others = [n for n in ENDINGS[1:] if signal.getsignal(n) in (signal.SIG_DFL, interrupt)]
    return [signal.SIGINT, signal.SIGTERM, *others]


class Interrupt:
    """A handler of signals: ends what runs, by KeyboardInterrupt, and not again within `AGAIN`."""

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.last > AGAIN:
            self.last = now
            raise KeyboardInterrupt(number)


interrupt = Interrupt()


class OutOfTime(UserError):
    """The time limit ended what comes before training."""


class StopRequest:
    """A context manager; inside, SIGTERM, SIGHUP and the like, and SIGINT only set `signal`.

    But an impatient second Ctrl-C, `AGAIN` seconds after the first, ends the program at once.

    Args:
        file: stop when it appears; removed then, so that the next start goes on.
        max_hours: stop this long after `start`.
        start: a time of `time.monotonic()`, which no correction of the clock changes.
    """

    def __init__(
        self, file: Path | None = None, max_hours: float | None = None, start: float = 0.0
    ) -> None:
        self.signal: signal.Signals | None = None
        self.file = file
        self.max_hours = max_hours
        self.start = start
        self.looked = time.monotonic()
        self.seen = False
        self.interrupted: float | None = None  # when the first SIGINT came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in taken():
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
        now = time.monotonic()
        if self.max_hours is not None and now - self.start > 3600 * self.max_hours:
            return f"--max-hours {self.max_hours:g}"
        if self.file and not self.seen and now - self.looked > LOOK:
            self.looked = now
            with suppress(OSError):  # a network folder may be out of reach for a moment
                self.seen = self.file.exists()
                if self.seen:
                    self.file.unlink(missing_ok=True)
        return f"the file {self.file}" if self.seen else None

    @contextmanager
    def ended_in_time(self) -> Iterator[None]:
        """Inside, where nobody asks for `reason()`, the time limit ends the work as Ctrl-C does.

        Without effect on Windows, and in threads other than the main one.

        Raises:
            OutOfTime: the limit is reached.
        """
        if self.max_hours is None or not taken() or not hasattr(signal, "setitimer"):
            yield
            return
        over = OutOfTime(
            f"stopped (--max-hours {self.max_hours:g}) before training began; what is prepared is "
            "kept, and the same command goes on"
        )
        left = self.start + 3600 * self.max_hours - time.monotonic()
        if left <= 0:
            raise over
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, left)
            yield
        except KeyboardInterrupt as stop:
            raise (over if stop.args == (signal.SIGALRM,) else stop) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _request(self, number: int, frame: object) -> None:
        self.signal = self.signal or signal.Signals(number)
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        self.interrupted = now if self.interrupted is None else self.interrupted
        if now - self.interrupted > AGAIN:
            self._restore(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            signal.signal(number, self._before[number])


@contextmanager
def ended_by_signals(line: str) -> Iterator[None]:
    """Inside, SIGTERM, SIGHUP and the like, and Ctrl-C end the work, print `line` and exit.

    The exit code is 128 and the signal's number: 143 for SIGTERM, 130 for Ctrl-C. While the
    process ends, which takes torch a moment, the same signal does not disturb it.
    """
    interrupt.last = -math.inf
    before = {number: signal.signal(number, interrupt) for number in taken()}
    try:
        yield
    except KeyboardInterrupt as stop:
        atexit.register(ignore, before)
        exec("")  # else Python, if it was interrupted in such a call, would end by SIGINT
        print(f"\n{line}", file=sys.stderr)
        sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
    finally:
        for number, handler in before.items() if interrupt.last == -math.inf else ():
            signal.signal(number, handler)


def ignore(numbers: Iterable[int]) -> None:
    """Ignore these signals. Python itself drops handlers when it ends, before all is over."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, SIGTERM, SIGHUP and the like, and Ctrl-C call `handler`."""
    before = {number: signal.signal(number, handler) for number in taken()}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)
