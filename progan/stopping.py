"""Turns SIGTERM and Ctrl-C into a request that the training loop honours between two updates."""

import signal
from types import TracebackType


class StopRequest:
    """A context manager: while it is open, the first SIGTERM or SIGINT only sets `signal`.

    A second one acts as usual, so an impatient Ctrl-C still ends the program at once.
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
        self._restore()

    def _request(self, number: int, frame: object) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
