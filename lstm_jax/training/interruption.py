"""Handling of Ctrl-C and SIGTERM, which stop a run after the current step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np


@contextmanager
def catch_interruptions(*, include_sigterm: bool) -> Iterator[Callable[[], bool]]:
    """Sets a flag at the first Ctrl-C or SIGTERM; a second signal has its usual effect.

    Python handles signals only in the main thread, so in other threads the flag stays False.

    Args:
        include_sigterm: whether to catch SIGTERM as well as Ctrl-C.
    Returns:
        is_interrupted: context manager that yields a function, which returns whether a signal was caught.
    """
    event = threading.Event()

    def handle_signal(number: int, frame: Any) -> None:
        if event.is_set():
            signal.signal(number, previous_handlers[number] or signal.SIG_DFL)
            os.kill(os.getpid(), number)
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return
    signals = (signal.SIGINT, signal.SIGTERM) if include_sigterm else (signal.SIGINT,)
    previous_handlers: dict[int, Any] = {number: signal.signal(number, handle_signal) for number in signals}
    try:
        yield event.is_set
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


def in_any_process(flag: bool) -> bool:
    """Returns whether ``flag`` is True in any process; all processes must call it at the same step."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
