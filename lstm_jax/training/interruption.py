"""Signals that end a run after the step at hand."""

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
    """Turns the first Ctrl-C, and the first SIGTERM if it is included, into a flag; a second one acts as usual.

    In another thread than the main one signals cannot be caught, and the flag stays false.

    Args:
        include_sigterm: whether SIGTERM is caught, which makes sense where a checkpoint is saved.
    Returns:
        is_interrupted: ``is_interrupted()`` says whether a signal came, within ``with``.
    """
    event = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if event.is_set():
            signal.signal(number, previous[number] or signal.SIG_DFL)
            os.kill(os.getpid(), number)
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return
    numbers = (signal.SIGINT, signal.SIGTERM) if include_sigterm else (signal.SIGINT,)
    previous: dict[int, Any] = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield event.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


def in_any_process(flag: bool) -> bool:
    """Returns whether a flag is true in any process; all of them have to ask at the same step."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
