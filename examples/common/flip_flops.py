"""Random batches for the three-bit flip-flop task: input pulses, and the bits that they set."""

import numpy as np

NUM_BITS = 3
NUM_STEPS = 64
PULSE_RATE = 0.1
"""probability of a pulse on each input at each step"""


class FlipFlops:
    """Batches (pulses, bits), each ``[T, B, 3]``: a bit is the sign of the last pulse on its input.

    A batch depends on the seed and its index alone.

    Args:
        seed: seed of all batches.
        batch_size: sequences per batch.
        count: number of batches.
    """

    def __init__(self, seed: int, batch_size: int = 64, count: int = 1000) -> None:
        self.seed = seed
        self.batch_size = batch_size
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, step))
        shape = NUM_STEPS, self.batch_size, NUM_BITS
        pulses = np.where(rng.random(shape) < PULSE_RATE, rng.choice([-1.0, 1.0], shape), 0.0)
        pulses[0] = rng.choice([-1.0, 1.0], shape[1:])
        steps = np.arange(NUM_STEPS)[:, None, None]
        last_pulse_steps = np.maximum.accumulate(np.where(pulses != 0, steps, 0), axis=0)
        bits = np.take_along_axis(pulses, last_pulse_steps, axis=0)
        return pulses.astype(np.float32), bits.astype(np.float32)
