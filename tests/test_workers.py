"""Worker processes: results in order, and Ctrl-C without harm."""

import os
import signal
import sys
import threading
import time

import pytest

from progan.data.workers import Workers, main_stays_here


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    raise ValueError(f"not {x}")


def mask(_: int) -> set:
    return signal.pthread_sigmask(signal.SIG_BLOCK, set())


@pytest.mark.parametrize("count", [0, 2])
def test_results_in_the_order_of_the_items(count):
    """Reference: the built-in map; an error comes out where its result would."""
    with Workers(double, count) as workers:
        assert list(workers.map(range(20))) == list(map(double, range(20)))
    with Workers(fail, count) as workers, pytest.raises(ValueError, match="not 3"):
        workers.submit(3).result()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no such masks on Windows")
def test_ctrl_c_is_not_for_workers_that_are_starting():
    """Reference: the mask that a worker has from its first moment; ours stays as it was."""
    before = mask(0)
    with Workers(mask, 1) as workers:
        assert signal.SIGINT in workers.submit(0).result()
    assert mask(0) == before


def test_ctrl_c_waits_for_a_process_that_is_being_started(monkeypatch):
    """Reference: a signal in the middle of `submit`: it comes out once that is done, not sooner."""
    done = []

    def submit(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # an interrupt that does not wait would end this
            done.append(len(done))

    end = threading.Event()
    threading.Thread(
        target=end.wait, daemon=True
    ).start()  # the system may give it the signal, masked here
    with Workers(double, 1) as workers:
        monkeypatch.setattr(workers._pool, "submit", submit)
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            workers.submit(0)
    end.set()
    assert len(done) == 1000 and signal.getsignal(signal.SIGINT) is handler


def slow_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_workers_go_on_for_a_while_after_sigterm():
    """Reference: the same process answers before and after. A batch system that signals every
    process of a run must not take from it what it needs to finish its update and save."""
    with Workers(slow_pid, 1) as workers:
        pid = workers.submit(0).result()
        during = workers.submit(0.5)
        os.kill(pid, signal.SIGTERM)
        assert during.result() == workers.submit(0).result() == pid


def test_the_main_module_is_back_after_threads_that_overlap():
    """Reference: the module from before. Threads that read ahead may start processes at once."""
    main, entered = sys.modules["__main__"], threading.Event()

    def hold(seconds: float) -> None:
        with main_stays_here():
            entered.set()
            time.sleep(seconds)

    first = threading.Thread(target=hold, args=(0.1,))
    first.start()
    entered.wait()
    hold(0.3)
    first.join()
    assert sys.modules["__main__"] is main
