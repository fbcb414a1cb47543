"""Batches of one long text in reading order, cut into windows for truncated backpropagation through time."""

from typing import Any, NamedTuple

import numpy as np


class TextWindow(NamedTuple):
    """A window of B parallel text streams, time first: the inputs and targets of a language model."""

    inputs: Any
    """int ``[T, B]``: the codes to read"""
    targets: Any
    """int ``[T, B]``: the codes to predict, ``inputs`` shifted by one step"""
    resets: Any
    """bool ``[T, B]``: True at the first step of an epoch, where the state is reset"""
    mask: Any
    """bool ``[T, B]``: False for padding at the end of a window shorter than T"""


class Stream:
    """Batches of one long text, split into ``batch_size`` parallel streams and cut into windows.

    Each window starts where the previous one ended, so that the recurrent state carries over between batches. An epoch
    predicts each code at most once.

    Args:
        codes: int ``[N]``, the character or word indices of the text.
        batch_size: B, the number of parallel streams; each stream holds a contiguous 1/B of the text.
        window: T, time steps per window.
        jitter: standard deviation of the window length; 0 means that all windows have length ``window``. Random lengths
            follow AWD-LSTM (Merity et al. 2018): their mean is ``window`` with probability 0.95, else ``window / 2``.
            Windows are padded to a common length, and ``mask`` is False for the padding.
        seed: seed of the random lengths.
    Raises:
        ValueError: ``codes`` are not integers ``[N]``, or too few for one window per stream.
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
        self.stream_length = length
        self.window = window
        self.jitter = jitter
        self.seed = seed
        self.max_window = window if jitter == 0 else int(window + 4 * jitter)
        self.num_windows = len(self._window_boundaries(0)) - 1

    def __len__(self) -> int:
        return self.num_windows

    def __getitem__(self, step: int) -> TextWindow:
        epoch, index = divmod(step, self.num_windows)
        start, end = self._window_boundaries(epoch)[index : index + 2]
        codes = self.streams[start : end + 1]
        padded_codes = np.pad(codes, ((0, self.max_window + 1 - len(codes)), (0, 0)))
        times = np.arange(self.max_window)[:, None] + np.zeros_like(codes[:1])
        resets = (times == 0) & (index == 0)
        return TextWindow(padded_codes[:-1], padded_codes[1:], resets, times < end - start)

    def _window_boundaries(self, epoch: int) -> np.ndarray:
        """Returns the start of each window and the end of the last; all epochs have the same number of windows."""
        if self.jitter == 0:
            return np.arange(0, self.stream_length + 1, self.window)
        rng = np.random.default_rng((self.seed, epoch))
        count = self.stream_length // self.window
        means = np.where(rng.random(count) < 0.95, self.window, self.window / 2)
        min_window = min(5, self.window)
        sizes = np.clip(rng.normal(means, self.jitter).astype(int), min_window, self.max_window)
        latest_boundaries = self.stream_length - min_window * np.arange(count, -1, -1)
        return np.minimum(np.concatenate([[0], np.cumsum(sizes)]), latest_boundaries)
