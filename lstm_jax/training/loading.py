"""Loading of batches from indexable datasets, loaders and iterators, with prefetching to the device in a thread.

``fit`` accepts batches in three forms:

- indexable, with ``batches[step]`` and ``len(batches)``: ``Shuffled``, ``Stream``, ``Bucketed``, a list;
- an iterable that can be read repeatedly, such as PyTorch's ``DataLoader``: each epoch iterates over it once;
- an iterator or generator, which is read once: training stops when it is exhausted.

A resumed run with indexable batches needs only its step. The other two forms resume with ``state_dict`` and
``load_state_dict`` of the iterable (torchdata) or ``get_state`` and ``set_state`` of its iterator (grain). Without
these, the earlier batches are read and discarded, which gives the same run if their order is the same. Checkpoints
contain these states pickled, so resume only from folders that you trust.
"""

import pickle
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches, batch_at


class LoadedBatch(NamedTuple):
    """A batch on the device, with the position of its iterator."""

    batch: PyTree
    position: bytes | None
    """pickled state of the loader or iterator after this batch; None if it has no state"""
    is_last: bool
    """whether the iterator is exhausted after this batch; always False for indexable batches"""


def load(
    batches: Any,
    start: int,
    stop: int,
    to_device: Callable[[PyTree], PyTree] = jax.device_put,
    *,
    position: bytes | None = None,
) -> Generator[LoadedBatch, None, None]:
    """Yields the batches of the steps from ``start`` to ``stop - 1`` on the device.

    Args:
        batches: indexable batches, an iterable or an iterator.
        start: first step; larger than 0 in a resumed run.
        stop: step after the last one.
        to_device: function that places a batch on the device.
        position: the ``position`` of the last batch before a resumption; None if there is none.
    Returns:
        loaded: generator of ``LoadedBatch``, which may end before ``stop``.
    Raises:
        ValueError: an iterator has no batches.
    """
    if is_indexable(batches):
        for batch in prefetch(batches, start, stop, to_device):
            yield LoadedBatch(batch, None, False)
        return

    def place_batch(item: tuple[tuple[PyTree, bytes | None], bool]) -> LoadedBatch:
        (batch, batch_position), is_last = item
        return LoadedBatch(to_device(batch), batch_position, is_last)

    positioned_batches = islice(_iterate_from(batches, start, position), max(stop - start, 0))
    step = start
    for loaded in prefetch_iterator(_mark_last(positioned_batches), place_batch):
        step += 1
        yield loaded
    if step == 0 < stop:
        raise ValueError("batches: got none, want at least one")


def prefetch(
    batches: Batches,
    start: int,
    stop: int,
    to_device: Callable[[PyTree], PyTree] = jax.device_put,
    *,
    buffer_size: int = 2,
) -> Iterator[PyTree]:
    """Prefetches indexable batches to the device in a thread while the device computes.

    Args:
        batches: indexable batches; a step beyond the first epoch is allowed.
        start: first step.
        stop: step after the last one.
        to_device: function that places a batch on the device.
        buffer_size: number of batches to prefetch.
    Returns:
        placed: iterator over ``to_device(batches[step])`` for the steps from ``start`` to ``stop - 1``.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> batches = training.Shuffled(np.arange(6), 2, shuffle=False)
        >>> [batch.tolist() for batch in training.prefetch(batches, 1, 4)]
        [[2, 3], [4, 5], [0, 1]]
    """

    def load_batch(step: int) -> PyTree:
        return to_device(as_arrays(batch_at(batches, step)))

    return prefetch_iterator(range(start, stop), load_batch, buffer_size=buffer_size)


def prefetch_iterator(items: Iterable[Any], make: Callable[[Any], Any], *, buffer_size: int = 2) -> Iterator[Any]:
    """Yields ``make(item)`` for each item, computed ahead of use in one thread.

    Args:
        items: iterable that is read in the thread.
        make: function of one item.
        buffer_size: number of results to compute ahead of use.
    Returns:
        results: iterator over the results in the order of the items.
    """
    iterator = iter(items)
    exhausted = object()

    def make_next() -> Any:
        item = next(iterator, exhausted)
        return exhausted if item is exhausted else make(item)

    pool = ThreadPoolExecutor(1)
    try:
        futures = deque(pool.submit(make_next) for _ in range(buffer_size + 1))
        while (result := futures.popleft().result()) is not exhausted:
            yield result
            futures.append(pool.submit(make_next))
    finally:
        pool.shutdown(cancel_futures=True)


def one_epoch(batches: Any) -> Iterator[PyTree]:
    """Returns an iterator over the batches of one epoch, converted to arrays.

    Raises:
        ValueError: the batches are empty, or neither indexable nor iterable.
    """
    check_batches(batches)
    if is_indexable(batches):
        return (as_arrays(batch_at(batches, step)) for step in range(len(batches)))
    return (as_arrays(batch) for batch in batches)


def as_arrays(batch: PyTree) -> PyTree:
    """Converts host tensors of other libraries to NumPy arrays and returns other leaves unchanged."""

    def convert(leaf: Any) -> Any:
        is_array = isinstance(leaf, jax.Array | np.ndarray | np.generic) or not hasattr(leaf, "__array__")
        return leaf if is_array else np.asarray(leaf)

    return jax.tree.map(convert, batch)


def is_indexable(batches: Any) -> bool:
    """Returns whether batches have ``batches[step]`` and ``len(batches)``."""
    return hasattr(batches, "__getitem__") and hasattr(batches, "__len__")


def is_iterator(batches: Any) -> bool:
    """Returns whether batches are an iterator, which can be read only once."""
    return not is_indexable(batches) and hasattr(batches, "__next__")


def check_batches(batches: Any) -> None:
    """Checks that batches are indexable or iterable, and not empty if they are indexable.

    Raises:
        ValueError: the batches are empty, or neither indexable nor iterable.
    """
    if is_indexable(batches):
        if len(batches) == 0:
            raise ValueError("batches: got none in an epoch, want at least one")
    elif not hasattr(batches, "__iter__"):
        raise ValueError(
            f"batches: got {type(batches).__name__}, want batches with an index (training.Shuffled, a list), a "
            "loader or a generator"
        )


def _iterate_from(batches: Iterable[PyTree], start: int, position: bytes | None) -> Iterator[tuple[PyTree, Any]]:
    """Yields each batch from step ``start``, with the position after it."""
    if position is not None and hasattr(batches, "load_state_dict"):
        batches.load_state_dict(pickle.loads(position))
    iterator = iter(batches)
    if position is not None and hasattr(iterator, "set_state"):
        iterator.set_state(pickle.loads(position))
    num_skipped = start if position is None else 0
    if num_skipped > 0:
        warnings.warn(
            f"batches: the first {start} are read again, since neither they (state_dict, load_state_dict) nor their "
            "iterator (get_state, set_state) keep a position; the run is the same if their order is the same",
            stacklevel=2,
        )
    yield from islice(_iterate_epochs(batches, iterator), num_skipped, None)


def _iterate_epochs(batches: Iterable[PyTree], iterator: Iterator[PyTree]) -> Iterator[tuple[PyTree, Any]]:
    """Yields the batches of ``iterator`` and of all later epochs, each with the position after it.

    ``iterator`` may be empty, if its position was the end of an epoch; a second empty epoch ends the batches.
    """
    num_empty_epochs = 0
    while num_empty_epochs < 2:
        num_empty_epochs += 1
        for batch in iterator:
            num_empty_epochs = 0
            yield as_arrays(batch), _pickle_position(batches, iterator)
        if is_iterator(batches):
            return
        iterator = iter(batches)


def _pickle_position(batches: Any, iterator: Any) -> bytes | None:
    """Pickles the state at once, since the next batch may modify it; None if there is no state."""
    if hasattr(batches, "state_dict") and hasattr(batches, "load_state_dict"):
        return pickle.dumps(batches.state_dict())
    if hasattr(iterator, "get_state") and hasattr(iterator, "set_state"):
        return pickle.dumps(iterator.get_state())
    return None


def _mark_last(items: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yields each item with a flag that is True for the last one."""
    exhausted = object()
    item = next(items, exhausted)
    while item is not exhausted:
        next_item = next(items, exhausted)
        yield item, next_item is exhausted
        item = next_item
