"""The Flax examples learn: a short run of each reads most digits of writers that are not in its training part."""

import jax
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed; it brings the images")
from examples import linen_digits, nnx_digits


@pytest.mark.long
@pytest.mark.parametrize("example", [linen_digits, nnx_digits], ids=["linen", "nnx"])
def test_a_short_run_reads_most_digits(example, capsys):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert example.main(epochs=15) > 0.85  # guessing: 0.1
    assert "accuracy" in capsys.readouterr().out
