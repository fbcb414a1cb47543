"""One long text in reading order, cut into windows for truncated back-propagation."""

from typing import Any, NamedTuple

import numpy as np


class TextWindow(NamedTuple):
    """A window of parallel streams, time first: what a language model reads and what it predicts."""

    inputs: Any
    """``[T, B]``"""
    targets: Any
    """``[T, B]``, the input one step on"""
    resets: Any
    """bool ``[T, B]``: true where an epoch begins"""
    mask: Any
    """bool ``[T, B]``: false after the end of a window that is shorter than T"""


class Stream:
    """Batches of one long text, read as ``batch_size`` parallel streams and cut into windows.

    A window starts where the one before it ended, so that a carried state reads on; each code is predicted once.

    Args:
        codes: int ``[N]``, the text's characters or words.
        batch_size: B, the streams, each a B-th of the text.
        window: T, steps in a window.
        jitter: with 0 all windows are of equal length. Else lengths are random as in AWD-LSTM (Merity et al. 2018):
            around ``window`` with this standard deviation, in 5 % of the cases around half of it; windows are filled up
            to a common length and the filling is false in ``mask``.
        seed: of the random lengths.
    Raises:
        ValueError: the codes are no integers ``[N]``, or too few for one window in each stream.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> stream = training.Stream(np.arange(101), batch_size=2, window=10)
        >>> len(stream), stream[1].inputs[:3, 0].tolist(), stream[1].targets[:3, 0].tolist()
        (5, [10, 11, 12], [11, 12, 13])
    """

    def __init__(self, codes: np.ndarray, batch_size: int, window: int, *, jitter: float = 0.0, seed: int = 0) -> None:
        if np.ndim(codes) != 1 or not np.issubdtype(np.asarray(codes).dtype, np.integer):
            raise ValueError(f"codes: got {np.asarray(codes).dtype}{list(np.shape(codes))}, want integers [N]")
        length = (len(codes) - 1) // batch_size
        if length < window:
            raise ValueError(
                f"codes: got {len(codes)}, want at least batch_size * window + 1 = {batch_size * window + 1}"
            )
        columns = [codes[k * length : (k + 1) * length + 1] for k in range(batch_size)]
        self.streams = np.stack(columns, axis=1)
        self.length, self.window, self.jitter, self.seed = length, window, jitter, seed
        self.max_window = window if jitter == 0 else int(window + 4 * jitter)
        self.count = len(self._boundaries(0)) - 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> TextWindow:
        epoch, number = divmod(step, self.count)
        start, end = self._boundaries(epoch)[number : number + 2]
        codes = self.streams[start : end + 1]
        codes = np.pad(codes, ((0, self.max_window + 1 - len(codes)), (0, 0)))
        times = np.arange(self.max_window)[:, None] + np.zeros_like(codes[:1])
        return TextWindow(codes[:-1], codes[1:], (times == 0) & (number == 0), times < end - start)

    def _boundaries(self, epoch: int) -> np.ndarray:
        """Where windows begin, and the last one ends; every epoch has as many, so that a step belongs to one epoch."""
        if self.jitter == 0:
            return np.arange(0, self.length + 1, self.window)
        rng = np.random.default_rng((self.seed, epoch))
        count = self.length // self.window
        base = np.where(rng.random(count) < 0.95, self.window, self.window / 2)
        min_window = min(5, self.window)
        sizes = np.clip(rng.normal(base, self.jitter).astype(int), min_window, self.max_window)
        latest = self.length - min_window * np.arange(count, -1, -1)
        return np.minimum(np.concatenate([[0], np.cumsum(sizes)]), latest)
