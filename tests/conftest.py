"""Strict settings for every test, and where the optional data lies."""

import importlib.metadata
import os
from collections import Counter
from pathlib import Path

import pytest

QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)  # a third of the time; XLA_FLAGS= tests what users run

import jax  # noqa: E402  reads XLA_FLAGS

from lstm_jax._core import tuning  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, metavar="N", help="of each test's cases take every N-th")


def pytest_collection_modifyitems(config, items):
    """With --every N a test of many cases runs the first, the N-th behind it, ...: never none, all if marked so."""
    seen, left_out = Counter(), []
    for item in items:
        name = item.nodeid.split("[")[0]
        if seen[name] % config.option.every and item.get_closest_marker("all_cases") is None:
            left_out.append(item)
        seen[name] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="module")
def short_chunks():
    """Chunks of at most 8 steps, so that small problems have several and a remainder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(max_chunk_steps=8))
        yield


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data sets, from LSTM_JAX_DATA or beside the project."""
    folder = Path(os.environ.get("LSTM_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LSTM_JAX_DATA")
    return folder


@pytest.fixture
def standard_promotion():
    """Flax and optax mix dtypes, which the tests forbid for our own code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
