"""Turns SIGTERM and Ctrl-C into a request that the training loop honours between two updates."""

import signal
from types import TracebackType


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
