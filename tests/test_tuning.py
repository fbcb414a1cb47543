"""What the measured choices come to at the sizes they were measured at."""

import pytest

from lstm_jax import tuning


@pytest.mark.parametrize(
    ("remat", "shape", "width", "steps"),
    [
        ("gates", (128, 32, 256), 256, 16),
        ("states", (128, 32, 256), 256, 16),
        ("states", (96, 32, 64), 128, 12),
        ("gates", (128, 64, 512), 512, 8),
        ("states", (8192, 8, 32), 64, 128),
        ("gates", (96, 2, 16, 64), 128, 32),
    ],
)
def test_chunks_at_the_sizes_measured(remat, shape, width, steps):
    assert tuning.chunk_limit(remat, shape, width) == steps


@pytest.mark.parametrize("remat", ["gates", "states"])
def test_chunks_at_the_ends(remat):
    assert tuning.chunk_limit(remat, (128, 1, 8), 1024) >= 128, "one row: the whole sequence"
    assert tuning.chunk_limit(remat, (3, 4096, 8), 1024) == 1, "never less than a step"
    assert tuning.chunk_limit(remat, (5, 0, 8), 16) >= 1, "an empty batch"
    assert tuning.chunk_limit(remat, (5000, 8), 16) == tuning.UNBATCHED[remat], "no batch axis"
