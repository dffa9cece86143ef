"""Processes that wait for each other for too long: told, and ended, before torch does so."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator


class Meeting:
    """Something that all processes do together.

    A call for CPUs returns when it is done. One for GPUs returns at once, and is done when the
    GPU has done it.
    """

    def __init__(self) -> None:
        self.returned = False
        self.on_gpu: torch.cuda.Event | None = None

    def ends(self, gpu: bool) -> None:
        if gpu:
            self.on_gpu = torch.cuda.Event()
            self.on_gpu.record()
        self.returned = True

    def is_over(self) -> bool:
        """Waits for nothing."""
        return self.returned and (self.on_gpu is None or self.on_gpu.query())


class WatchedAccelerator(Accelerator):
    """Accelerate's. Where the others do not come to a meeting for too long, it ends this process.

    torch would end it, too: gloo by an error in the call, but NCCL by SIGABRT from a thread of its
    own, and whoever waits for the GPU then has no chance to say a word.

    Args:
        seconds: how long a meeting may last.
        farewell: what the user is told then; ask for it as late as that.
    """

    def __init__(self, seconds: float, farewell: Callable[[], str], **settings: Any):
        super().__init__(**settings)
        self.seconds = seconds
        self.farewell = farewell
        self.meetings: deque[Meeting] = deque()  # those of this process, the oldest first
        if self.num_processes > 1:
            threading.Thread(target=self.watch, daemon=True).start()

    def reduce(self, *arguments: Any, **more: Any) -> Any:
        with self.meeting():
            return super().reduce(*arguments, **more)

    def gather(self, *arguments: Any, **more: Any) -> Any:
        with self.meeting():
            return super().gather(*arguments, **more)

    def wait_for_everyone(self) -> None:
        with self.meeting():
            super().wait_for_everyone()

    @contextmanager
    def meeting(self) -> Iterator[None]:
        while self.meetings and self.meetings[0].is_over():
            self.meetings.popleft()
        meeting = Meeting()
        self.meetings.append(meeting)
        try:
            yield
        finally:
            meeting.ends(gpu=self.device.type == "cuda")

    def watch(self) -> None:
        """In a thread, as the main one is in a call that does not return.

        It counts its own seconds: none pass where the whole job is suspended.
        """
        pause, waited = min(1.0, self.seconds / 10), 0.0
        seen: Meeting | None = None
        while waited < self.seconds or seen is None or seen.is_over():
            time.sleep(pause)
            oldest = next(iter(self.meetings.copy()), None)  # the main thread changes the original
            waited = waited + pause if oldest is seen else 0.0
            seen = oldest
        print(f"\nError: {self.farewell()}", file=sys.stderr, flush=True)
        os._exit(2)
