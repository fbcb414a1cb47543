"""Strict settings for every test, and where the optional data lies."""

import os
from pathlib import Path

import jax
import pytest

from lstm_jax import tuning

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def short_chunks():
    """Chunks of at most 8 steps, so that small problems have several and a remainder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "chunk_limit", lambda remat, shape, width: 8)
        jax.clear_caches()
        yield
    jax.clear_caches()


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data sets, from LSTM_JAX_DATA or beside the project."""
    folder = Path(os.environ.get("LSTM_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LSTM_JAX_DATA")
    return folder
