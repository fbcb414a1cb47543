"""What the measured choices come to at the sizes they were measured at."""

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj
from lstm_jax._core import tuning

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
    assert tuning.max_scan_chunk(CPU, remat, shape, width) == steps


@pytest.mark.parametrize("remat", ["gates", "states"])
def test_chunks_at_the_ends(remat):
    assert tuning.max_scan_chunk(CPU, remat, (128, 1, 8), 1024) >= 128, "one row: the whole sequence"
    assert tuning.max_scan_chunk(CPU, remat, (3, 4096, 8), 1024) == 1, "never less than a step"
    assert tuning.max_scan_chunk(CPU, remat, (5, 0, 8), 16) >= 1, "an empty batch"
    assert tuning.max_scan_chunk(CPU, remat, (5000, 8), 16) == tuning.MAX_UNBATCHED_STEPS[remat], "no batch axis"


def test_a_limit_for_every_size():
    assert tuning.max_scan_chunk(CPU._replace(max_chunk_steps=8), "gates", (128, 1, 8), 16) == 8


def test_a_gpu_has_chunks_of_its_own():
    gpu = tuning.SCAN_CONFIGS["cuda"]
    assert tuning.max_scan_chunk(gpu, "states", (512, 128, 512), 512) == 64
    assert tuning.max_scan_chunk(gpu, "gates", (512, 16, 128), 128) == 2048


def test_a_program_exported_for_cuda_from_a_cpu_has_a_gpus_chunks_and_bodies(monkeypatch):
    """The plan follows the platform that is lowered for: on CUDA no loop over chunks, and 4 steps in a body."""
    params = jax.eval_shape(lambda: lj.init_params(jax.random.key(0), 8, 128, dtype=jnp.float32))
    xs = jax.ShapeDtypeStruct((512, 16, 8), jnp.float32)

    def exported(platform):
        def loss(params, xs):
            return jnp.sum(lj.lstm(params, xs, remat="gates")[1])

        text = jax.export.export(jax.jit(jax.grad(loss)), platforms=[platform])(params, xs).mlir_module()
        return text.count("stablehlo.while"), text.count("call @") + text.count("stablehlo.dot_general")

    assert "gpu" not in jax.default_backend()
    loops, calls = exported("cuda")
    cpu_loops, cpu_calls = exported("cpu")
    assert loops == 2, "one loop forward and one backward"
    assert cpu_loops > loops, "loops over chunks around them"
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cuda", tuning.SCAN_CONFIGS["cuda"]._replace(unroll=1))
    rolled_loops, rolled_calls = exported("cuda")
    assert rolled_loops == loops
    assert calls >= rolled_calls + 2 * 3, "3 steps more in both bodies"
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cuda", CPU)
    assert exported("cuda") == (cpu_loops, cpu_calls), "as the table says"
