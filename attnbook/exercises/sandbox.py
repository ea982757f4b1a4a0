"""Call the reader's function so that it can do no harm: on copies, for a limited time, with its printing kept.

Stopping works between two steps of Python and in `time.sleep`. A single call into C that does not return (a product
of enormous matrices) is waited for, as Ctrl-C would have to; memory is limited so that such a call fails first. One
that needs no memory (`sum(itertools.count())`) is ended by a restart of the kernel alone, and so is `os._exit`.
"""

import contextlib
import copy
import ctypes
import io
import signal
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

GIBIBYTE = 2**30
PRINTED = 100_000  # characters that are kept


class TimeLimit(BaseException):
    """Not an Exception, so that the reader's `except Exception` does not hold it up."""


@dataclass
class Outcome:
    """What came of one call."""

    args: tuple  # as they were before the call
    value: Any = None
    error: BaseException | None = None
    late: bool = False
    changed: list[int] = field(default_factory=list)  # the arguments that are not what they were
    printed: str = ""
    warned: list = field(default_factory=list)
    seconds: float = 0.0


class _Printed(io.StringIO):
    """What was printed, its beginning; `print` in a loop fills no memory, and `sys.stdout.close()` loses nothing."""

    def write(self, text: str) -> int:
        if self.tell() < PRINTED:
            super().write(text[:PRINTED])
        return len(text)

    def close(self):
        pass


def call(function, args: tuple, seconds: float = 5.0, memory: int = 2 * GIBIBYTE) -> Outcome:
    """Call `function(*args)` on copies. Only a KeyboardInterrupt gets out."""
    outcome, copies, printed = Outcome(args), copy.deepcopy(args), _Printed()

    def run():
        start = time.perf_counter()
        try:
            outcome.value = function(*copies)
        finally:
            outcome.seconds = time.perf_counter() - start

    limited = _alarmed if _has_alarm() else _threaded
    with warnings.catch_warnings(record=True) as outcome.warned, contextlib.redirect_stdout(printed), _memory(memory):
        warnings.simplefilter("always")
        try:
            limited(run, seconds)
        except KeyboardInterrupt:
            raise
        except TimeLimit:
            outcome.late = True
        except BaseException as error:
            outcome.error = error
    outcome.printed = printed.getvalue()
    outcome.changed = [i for i, (old, new) in enumerate(zip(args, copies)) if not _unchanged(old, new)]
    return outcome


def _unchanged(old, new) -> bool:
    if isinstance(old, (list, tuple)):
        return len(old) == len(new) and all(map(_unchanged, old, new))
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_unchanged(old[key], new[key]) for key in old)
    if hasattr(old, "shape"):
        old, new = (np.asarray(x.detach().cpu() if hasattr(x, "detach") else x) for x in (old, new))
        return old.shape == new.shape and bool(np.all((old == new) | ((old != old) & (new != new))))
    return True


def _has_alarm() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def _alarmed(run, seconds: float) -> None:
    """Run it here and let a signal raise TimeLimit. A timer that was set before is set again."""
    armed, rings, tracing = True, 0, sys.gettrace()

    def insist(frame, event, argument):
        if event == "exception":  # this one is under way; what comes next is its handler
            return insist
        raise TimeLimit

    def ring(number, frame):
        nonlocal rings
        rings += 1
        if not armed:
            return
        if rings > 1:  # the first was swallowed by a bare `except:`; now every step raises, also those of the handler
            sys.settrace(insist)
            while frame is not None and frame.f_code is not _alarmed.__code__:
                frame.f_trace, frame.f_trace_opcodes, frame = insist, True, frame.f_back
        raise TimeLimit

    start, handler = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        try:
            run()
        finally:
            armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracing)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 0.01), interval)


def _threaded(run, seconds: float) -> None:
    """Without signals (Windows, or not the main thread): a thread, and TimeLimit raised inside it."""
    errors = []

    def guarded():
        try:
            run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeLimit))
        thread.join(1)
        raise TimeLimit  # if it sleeps or is inside C it stays behind, and ends when that returns
    if errors:
        raise errors[0]


@contextlib.contextmanager
def _memory(allowed: int):
    """No more than `allowed` bytes beyond what there is, where the system can limit it (Linux, without CUDA)."""
    torch = sys.modules.get("torch")
    if not sys.platform.startswith("linux") or (torch and torch.cuda.is_available()):
        yield  # CUDA reserves far more addresses than it uses memory
        return
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([used + allowed, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
