"""Processes that read and decode images. What they import must not import torch."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any, Self

import numpy as np

from progan.runtime.errors import UserError
from progan.runtime.launch import processes_here
from progan.runtime.stopping import ENDINGS

GRACE_SECONDS = 5  # that a worker goes on after SIGTERM: enough for the update under way


def cores() -> int:
    """Processor cores for each of the processes that train on this machine."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (here or 1) // processes_here())


class Workers:
    """Calls `job(item)` in processes.

    Args:
        job: can be pickled; each process gets its copy once.
        count: number of processes; 0: this one does the work; None: one for each core.
    """

    def __init__(self, job: Callable[[Any], Any], count: int | None):
        self.count = count = cores() if count is None else count
        self._job = job
        self._pool: ProcessPoolExecutor | None = None
        self._stack = ExitStack()
        if count:
            # Spawned, not forked: torch's threads and CUDA do not survive a fork.
            context = multiprocessing.get_context("spawn")
            with interrupts_wait():  # it starts Python's resource tracker
                self._pool = ProcessPoolExecutor(count, context, initializer=begin, initargs=(job,))

    def __enter__(self) -> Self:
        self._stack.enter_context(without_pil_warnings())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what has not begun and wait for the rest."""
        self._stack.close()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, item: Any) -> Future:
        if self._pool:
            with interrupts_wait(), main_stays_here():  # it may start a process
                return self._pool.submit(work, item)
        return done(self._job, item)

    def spread(self, values: np.ndarray, item_of: Callable[[np.ndarray], Any]) -> list[Any]:
        """Results for `item_of` of equal parts of the values, in order; the workers share them.

        Raises:
            UserError: a worker was killed.
        """
        parts = np.array_split(values, max(1, min(self.count, len(values))))
        with killing_explained():
            futures = [self.submit(item_of(part)) for part in parts]
            return [future.result() for future in futures]

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the items, worked out a bounded way ahead.

        Until the workers have started, this process does their work.

        Raises:
            UserError: a worker was killed.
        """
        ahead: deque[Future] = deque()
        most, started = 3 * self.count, False
        with killing_explained():
            for item in items:
                while len(ahead) > most and (started or ahead[0].done()):
                    yield ahead.popleft().result()
                    started = True
                ahead.append(self.submit(item) if len(ahead) <= most else done(self._job, item))
            while ahead:
                yield ahead.popleft().result()


def done(job: Callable[[Any], Any], item: Any) -> Future:
    """The result of `job(item)`, computed now, as a worker would return it."""
    future: Future = Future()
    try:
        future.set_result(job(item))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def killing_explained() -> Iterator[None]:
    """Replaces the error of a killed worker by a UserError that says what to do."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, as the system does when memory is short; use fewer of "
            "them (data.workers, --workers): the same command goes on"
        ) from error


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Delays Ctrl-C, SIGTERM and the like. Processes that start meanwhile receive only SIGTERM.

    An executor that is interrupted while it starts a process does not know of it, and waits for
    ever when it shuts down.
    """
    seen: list[tuple] = []
    main = threading.current_thread() is threading.main_thread()  # handlers run nowhere else
    ignored = signal.SIG_IGN, None  # None: by a handler that is not Python's
    numbers = [n for n in (signal.SIGINT, *ENDINGS) if main and signal.getsignal(n) not in ignored]
    before = {n: signal.signal(n, lambda *arguments: seen.append(arguments)) for n in numbers}
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    others = {signal.SIGINT, *ENDINGS} - {signal.SIGTERM}  # a terminal signals all its processes
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, others) if masks else set()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in seen[:1]:
            handler = before[number]
            if handler == signal.SIG_DFL:
                signal.raise_signal(number)
            elif not isinstance(handler, int | None):
                handler(number, frame)


main_lock = threading.Lock()  # several threads may submit


@contextmanager
def main_stays_here() -> Iterator[None]:
    """Processes that start meanwhile do not run the caller's script again.

    Python would import it into each of them: with torch, and with the call that brought us here,
    unless the script guards it by `if __name__ == "__main__"`.
    """
    with main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


job_here: Callable[[Any], Any]  # of a worker process


def begin(job: Callable[[Any], Any]) -> None:
    """Prepares a worker process."""
    global job_here
    job_here = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
    signal.signal(signal.SIGTERM, end_later)
    warnings.filterwarnings("ignore", module="PIL")  # see without_pil_warnings
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_later(*_: object) -> None:
    """A batch system may signal all processes; the main one first finishes its update."""
    timer = threading.Timer(GRACE_SECONDS, os._exit, (143,))
    timer.daemon = True
    timer.start()


def end_with_parent() -> None:
    """A killed main process cannot end its workers, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def work(item: Any) -> Any:
    return job_here(item)


@contextmanager
def without_pil_warnings() -> Iterator[None]:
    """Hides PIL's warnings: they concern single files, and end as BadImage or do no harm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield
