"""The data of three flip-flops: pulses, and the bits that they set."""

import numpy as np

NUM_BITS = 3
NUM_STEPS = 64
PULSE_RATE = 0.1
"""The chance of a pulse on each input at each step."""


class FlipFlops:
    """Pulses and the bits to be held, each ``[T, B, 3]``, drawn anew for each step."""

    def __init__(self, seed: int, batch_size: int = 64, count: int = 1000) -> None:
        self.seed, self.batch_size, self.count = seed, batch_size, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, step))
        shape = NUM_STEPS, self.batch_size, NUM_BITS
        pulses = np.where(rng.random(shape) < PULSE_RATE, rng.choice([-1.0, 1.0], shape), 0.0)
        pulses[0] = rng.choice([-1.0, 1.0], shape[1:])
        last = np.maximum.accumulate(np.where(pulses != 0, np.arange(NUM_STEPS)[:, None, None], 0), axis=0)
        held = np.take_along_axis(pulses, last, axis=0)
        return pulses.astype(np.float32), held.astype(np.float32)
