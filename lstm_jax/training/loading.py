"""Batches on their way to the device: by number or from an iterator, made in a thread while the device computes.

``fit`` takes batches in three forms, told apart by what they can do:

- by number, ``batches[step]`` and ``len(batches)``: ``Shuffled``, ``Stream``, ``Bucketed``, a list;
- an iterable that can be read again, such as PyTorch's ``DataLoader``: each epoch reads it anew;
- an iterator or generator, read once; where it runs out training ends.

A resumed run of the first form needs the number of its step alone. The other two go on by ``state_dict`` and
``load_state_dict`` of the iterable or ``get_state`` and ``set_state`` of its iterator, as torchdata and grain have
them; without either, the batches before are read once more, which gives the same run if they come in the same order.
A checkpoint keeps such a state pickled, so resume only from folders that you trust.
"""

import pickle
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches, batch_at


class LoadedBatch(NamedTuple):
    """A batch on the device."""

    batch: PyTree
    position: bytes | None
    """where the batches stand after this one, for a checkpoint; None if they have no state"""
    is_last: bool
    """whether an iterator has no further batch"""


def load(
    batches: Any,
    start: int,
    stop: int,
    to_device: Callable[[PyTree], PyTree] = jax.device_put,
    *,
    position: bytes | None = None,
) -> Generator[LoadedBatch, None, None]:
    """Yields the batches of the steps from start to stop on the device.

    Args:
        batches: in one of the forms above.
        start: the number of the first step, that of a resumed run included.
        stop: the number after the last step.
        to_device: places a batch.
        position: the last batch's ``position`` of the run that is resumed.
    Returns:
        loaded: an iterator of ``LoadedBatch``, which may end before ``stop``.
    Raises:
        ValueError: an iterator has no batch at all.
    """
    if has_numbers(batches):
        for batch in prefetch(batches, start, stop, to_device):
            yield LoadedBatch(batch, None, False)
        return
    items = _mark_last(_take(_read_on(batches, start, position), stop - start))
    number = start
    for loaded in prefetch_iterator(items, lambda item: LoadedBatch(to_device(item[0][0]), item[0][1], item[1])):
        number += 1
        yield loaded
    if number == 0 < stop:
        raise ValueError("batches: got none, want at least one")


def prefetch(
    batches: Batches,
    start: int,
    stop: int,
    to_device: Callable[[PyTree], PyTree] = jax.device_put,
    *,
    buffer_size: int = 2,
) -> Iterator[PyTree]:
    """Yields batches by number, made and placed in a thread while the device computes.

    Args:
        batches: ``batches[step]``.
        start: the number of the first step.
        stop: the number after the last step.
        to_device: places a batch.
        buffer_size: how many batches are made ahead of the one in use.
    Returns:
        placed: an iterator over ``to_device(batches[step])``.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> batches = training.Shuffled(np.arange(6), 2, shuffle=False)
        >>> [batch.tolist() for batch in training.prefetch(batches, 1, 4)]
        [[2, 3], [4, 5], [0, 1]]
    """
    make = lambda step: to_device(as_arrays(batch_at(batches, step)))  # noqa: E731
    return prefetch_iterator(range(start, stop), make, buffer_size=buffer_size)


def prefetch_iterator(items: Iterable[Any], make: Callable[[Any], Any], *, buffer_size: int = 2) -> Iterator[Any]:
    """Yields ``make(item)`` for each item; a thread reads and makes them ahead.

    Args:
        items: read in the thread too, one after another.
        make: a function of an item.
        buffer_size: how many results are made ahead of the one in use.
    Returns:
        made: an iterator in the order of the items.
    """
    iterator, end = iter(items), object()

    def next_made() -> Any:
        item = next(iterator, end)
        return end if item is end else make(item)

    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next_made) for _ in range(buffer_size + 1))
        while (made := waiting.popleft().result()) is not end:
            yield made
            waiting.append(pool.submit(next_made))
    finally:
        pool.shutdown(cancel_futures=True)


def one_epoch(batches: Any) -> Iterator[PyTree]:
    """Yields the batches of one epoch as arrays, from its start.

    Raises:
        ValueError: the batches have none of the forms that ``fit`` takes.
    """
    check_batches(batches)
    if has_numbers(batches):
        return (as_arrays(batch_at(batches, number)) for number in range(len(batches)))
    return (as_arrays(batch) for batch in batches)


def as_arrays(batch: PyTree) -> PyTree:
    """Turns tensors of other libraries on the host into NumPy arrays, and leaves all else as it is."""

    def convert(leaf: Any) -> Any:
        is_array = isinstance(leaf, jax.Array | np.ndarray | np.generic) or not hasattr(leaf, "__array__")
        return leaf if is_array else np.asarray(leaf)

    return jax.tree.map(convert, batch)


def has_numbers(batches: Any) -> bool:
    """Returns whether batches are read by number, ``batches[step]`` and ``len(batches)``."""
    return hasattr(batches, "__getitem__") and hasattr(batches, "__len__")


def is_iterator(batches: Any) -> bool:
    """Returns whether batches can be read only once."""
    return not has_numbers(batches) and hasattr(batches, "__next__")


def check_batches(batches: Any) -> None:
    """Checks that batches have one of the forms that ``fit`` takes.

    Raises:
        ValueError: they have none of them, or an epoch has no batch.
    """
    if has_numbers(batches):
        if len(batches) == 0:
            raise ValueError("batches: got none in an epoch, want at least one")
    elif not hasattr(batches, "__iter__"):
        raise ValueError(
            f"batches: got {type(batches).__name__}, want batches by number (training.Shuffled, a list), a loader or a "
            "generator"
        )


def _read_on(batches: Iterable[PyTree], start: int, position: bytes | None) -> Iterator[tuple[PyTree, Any]]:
    """Each batch with the position after it, from step ``start`` on."""
    if position is not None and hasattr(batches, "load_state_dict"):
        batches.load_state_dict(pickle.loads(position))
    iterator = iter(batches)
    if position is not None and hasattr(iterator, "set_state"):
        iterator.set_state(pickle.loads(position))
    is_replayed = start > 0 and position is None
    if is_replayed:
        warnings.warn(
            f"batches: the first {start} are read again, since neither they (state_dict, load_state_dict) nor their "
            "iterator (get_state, set_state) keep a position; the run is the same if they come in the same order",
            stacklevel=2,
        )
    source = _epochs(batches, iterator)
    for number, item in enumerate(source):
        if not is_replayed or number >= start:
            yield item


def _epochs(batches: Iterable[PyTree], iterator: Iterator[PyTree]) -> Iterator[tuple[PyTree, Any]]:
    """The rest of an epoch and all that follow; a position that was the end of an epoch leaves nothing of it."""
    num_empty = 0
    while num_empty < 2:
        num_empty += 1
        for batch in iterator:
            num_empty = 0
            yield as_arrays(batch), _position(batches, iterator)
        if is_iterator(batches):
            return
        iterator = iter(batches)


def _position(batches: Any, iterator: Any) -> bytes | None:
    """Pickled at once, since a state may be changed by the next batch, and may hold tensors."""
    if hasattr(batches, "state_dict") and hasattr(batches, "load_state_dict"):
        return pickle.dumps(batches.state_dict())
    if hasattr(iterator, "get_state") and hasattr(iterator, "set_state"):
        return pickle.dumps(iterator.get_state())
    return None


def _take(items: Iterator[Any], count: int) -> Iterator[Any]:
    for _, item in zip(range(count), items, strict=False):
        yield item


def _mark_last(items: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Each item with whether it is the last one."""
    end = object()
    item = next(items, end)
    while item is not end:
        following = next(items, end)
        yield item, following is end
        item = following
