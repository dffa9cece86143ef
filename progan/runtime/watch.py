"""Ends this process with a message if another one is lost, before torch ends it without."""

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
    """A collective operation of all processes.

    On CPUs its call returns when it is over. On GPUs the call returns at once, and the operation is
    over when the GPU has done it.
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
        """Whether all processes have met; does not wait."""
        return self.returned and (self.on_gpu is None or self.on_gpu.query())


class WatchedAccelerator(Accelerator):
    """An Accelerator that ends this process if the others do not come to a meeting in time.

    torch would end it, too: gloo by an error in the call, but NCCL by SIGABRT from its own thread,
    which leaves no chance for a message.

    Args:
        seconds: how long a meeting may last.
        farewell: gives the message to the user; called only then.
    """

    def __init__(self, seconds: float, farewell: Callable[[], str], **settings: Any):
        super().__init__(**settings)
        # A copy, as all Accelerators share one: a later one may compute on another device.
        self.state.__dict__ = dict(vars(self.state))
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
        """Runs in a thread, as the main one is in a call that does not return.

        Counts its own seconds, none of which pass while the whole job is suspended.
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
