"""What the measured choices come to at the sizes they were measured at."""

import pytest

from lstm_jax._core import engine, sequence, tuning

CPU = tuning.SCAN_CONFIGS["cpu"]


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
    assert tuning.max_chunk_size(CPU, remat, shape, width) == steps


@pytest.mark.parametrize("remat", ["gates", "states"])
def test_chunks_at_the_ends(remat):
    assert tuning.max_chunk_size(CPU, remat, (128, 1, 8), 1024) >= 128, "one row: the whole sequence"
    assert tuning.max_chunk_size(CPU, remat, (3, 4096, 8), 1024) == 1, "never less than a step"
    assert tuning.max_chunk_size(CPU, remat, (5, 0, 8), 16) >= 1, "an empty batch"
    assert tuning.max_chunk_size(CPU, remat, (5000, 8), 16) == tuning.MAX_UNBATCHED_CHUNK[remat], "no batch axis"


def test_a_gpu_has_chunks_and_bodies_of_its_own(monkeypatch):
    gpu = tuning.scan_config("gpu")
    assert tuning.max_chunk_size(gpu, "states", (512, 128, 512), 512) == 64
    assert tuning.max_chunk_size(gpu, "gates", (512, 16, 128), 128) == 2048
    assert sequence._loop() is engine.scan_loop(CPU)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert sequence._loop() is engine.scan_loop(gpu) is not engine.scan_loop(CPU)
