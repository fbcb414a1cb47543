"""Each scheme draws from the distribution it is named after."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax._core.structs import split_gates
from lstm_jax.initializers import SCHEMES

D, H = 96, 64
FORGET = slice(H, 2 * H)


def draw(scheme, **options):
    extra = {"max_time": 100} if scheme == "chrono" else {}
    return lj.init_params(jax.random.key(3), D, H, scheme=scheme, **extra, **options)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_in_every_dtype(scheme, dtype):
    params = draw(scheme, dtype=dtype)
    chex.assert_shape(params, [(D, 4 * H), (H, 4 * H), (4 * H,)])
    chex.assert_tree_all_finite(params)
    assert all(leaf.dtype == dtype for leaf in params)
    assert len(np.unique(np.asarray(params.recurrent_kernel, np.float32))) > 1000


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_key_decides(scheme):
    chex.assert_trees_all_equal(draw(scheme), draw(scheme))
    other = lj.init_params(jax.random.key(4), D, H, scheme=scheme, max_time=100 if scheme == "chrono" else None)
    assert not np.allclose(other.input_kernel, draw(scheme).input_kernel)


@pytest.mark.parametrize("scheme", ["orthogonal_per_gate", "flax", "chrono"])
def test_each_gate_is_orthogonal(scheme):
    for block in split_gates(draw(scheme).recurrent_kernel):
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)


def test_keras_is_orthogonal_as_one_matrix_so_its_gates_are_not():
    recurrent = draw("keras").recurrent_kernel
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), atol=1e-5)
    assert all(np.linalg.norm(block, 2) < 0.95 for block in split_gates(recurrent))


@pytest.mark.parametrize(("scheme", "forget"), [("orthogonal_per_gate", 1), ("keras", 1), ("haiku", 1), ("flax", 0)])
def test_the_forget_bias_is_visible(scheme, forget):
    bias = np.asarray(draw(scheme).bias)
    np.testing.assert_array_equal(bias[FORGET], forget)
    np.testing.assert_array_equal(np.delete(bias, np.arange(H, 2 * H)), 0)


def test_torch_is_uniform_with_two_biases_summed():
    params, bound = draw("torch"), H**-0.5
    for kernel in (params.input_kernel, params.recurrent_kernel):
        assert np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.02)
    assert bound < np.abs(params.bias).max() <= 2 * bound
    np.testing.assert_allclose(params.bias.std(), bound * (2 / 3) ** 0.5, rtol=0.1)


def test_kernel_scales():
    """Standard deviations: Glorot over one gate or over the fused matrix, LeCun, and haiku's own."""
    np.testing.assert_allclose(draw("orthogonal_per_gate").input_kernel.std(), (2 / (D + H)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(draw("keras").input_kernel.std(), (2 / (D + 4 * H)) ** 0.5, rtol=0.02)
    assert np.abs(draw("keras").input_kernel).max() <= (6 / (D + 4 * H)) ** 0.5


def test_flax_equals_flax_in_distribution():
    variables = nn.OptimizedLSTMCell(H, param_dtype=jnp.float32).init(
        jax.random.key(0), (jnp.zeros(H, jnp.float32),) * 2, jnp.zeros(D, jnp.float32)
    )["params"]
    theirs = np.concatenate([variables[f"i{gate}"]["kernel"] for gate in "ifgo"], axis=1)
    ours = draw("flax").input_kernel
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.05)


def test_haiku_equals_haiku_in_distribution():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")
    layer = hk.transform(lambda x: hk.LSTM(H)(x, hk.LSTM(H).initial_state(None)))
    with jax.numpy_dtype_promotion("standard"):
        theirs = layer.init(jax.random.PRNGKey(0), jnp.zeros(D, jnp.float32))["lstm/linear"]["w"]
    ours = jnp.concatenate(draw("haiku")[:2])
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.02)


def test_chrono_spreads_the_memory_spans():
    i, f, g, o = (np.asarray(block) for block in split_gates(draw("chrono").bias))
    np.testing.assert_array_equal(i, -f)
    assert f.min() >= 0
    assert f.max() <= np.log(99)
    np.testing.assert_allclose(np.exp(f).mean(), 50, rtol=0.15)
    assert not g.any()
    assert not o.any()


def test_zero_state():
    half = draw("flax", dtype=jnp.bfloat16)
    state = lj.zero_state(half, (2, 3))
    chex.assert_shape(state, (2, 3, H))
    assert (state.h.dtype, state.c.dtype) == (jnp.bfloat16, jnp.float32)
    assert lj.zero_state(half).h.shape == (H,)


def test_vmap_draws_what_single_calls_draw():
    """Under ``vmap`` there is no batched QR factorization, which on two cores may never end."""
    keys = jax.random.split(jax.random.key(0), 5)
    draw = lambda key: lj.init_params(key, 3, 4, dtype=jnp.float64)  # noqa: E731
    many = jax.jit(jax.vmap(draw))
    for number, key in enumerate(keys):
        jax.tree.map(lambda a, b, n=number: np.testing.assert_array_equal(a[n], b), many(keys), draw(key))
    qr = [line for line in many.lower(keys).as_text().splitlines() if "geqrf" in line]
    assert qr
    assert not any("tensor<5x" in line for line in qr), qr
