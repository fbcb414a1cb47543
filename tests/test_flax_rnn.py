"""Flax modules: the same results as Flax's own from the same parameters, inside Flax's and JAX's transformations."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict
from problems import assert_trees_close

import lstm_jax as lj
from lstm_jax.flax_modules import linen
from lstm_jax.flax_modules import nnx as ours_nnx

T, B, D, H = 7, 3, 4, 5
FLOAT = jnp.float32
flax_promotes = pytest.mark.usefixtures("standard_promotion")
KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (B, T, D), FLOAT)
LENGTHS = jnp.array([T, 2, 5])
CELLS = ["LSTMCell", "OptimizedLSTMCell", "GRUCell"]
CALLS = {
    "plain": {},
    "carry": {"return_carry": True},
    "lengths": {"seq_lengths": LENGTHS, "return_carry": True},
    "reverse": {"reverse": True, "return_carry": True},
    "reverse, lengths, order": {"reverse": True, "seq_lengths": LENGTHS, "keep_order": True},
    "reverse, lengths": {"reverse": True, "seq_lengths": LENGTHS, "return_carry": True},
}
every_cell = pytest.mark.parametrize("name", CELLS)
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def only_valid(result, call):
    """Outputs after a length are 0 here and anything in Flax."""
    if "seq_lengths" not in call:
        return result
    valid = (jnp.arange(T)[None] < LENGTHS[:, None])[..., None]
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, 0) if leaf.shape[:2] == (B, T) else leaf, result)


def random_carry(name, key=KEY):
    h, c = jax.random.normal(key, (2, B, H), FLOAT)
    return h if name == "GRUCell" else (c, h)


# linen


@every_call
@every_cell
def test_linen_rnn_is_flaxs_own(name, call):
    """One checkpoint, both modules; batch first and time first."""
    theirs, ours = nn.RNN(getattr(nn, name)(H)), linen.RNN(getattr(nn, name)(H))
    variables = theirs.init(KEY, XS)
    assert_trees_close(ours.init(KEY, XS), variables, 0)
    carry = random_carry(name)
    want = theirs.apply(variables, XS, initial_carry=carry, **call)
    assert_trees_close(
        only_valid(ours.apply(variables, XS, initial_carry=carry, **call), call), only_valid(want, call), 1e-6
    )
    time_major = ours.apply(variables, jnp.swapaxes(XS, 0, 1), initial_carry=carry, time_major=True, **call)
    ys = time_major[1] if call.get("return_carry") else time_major
    batch_first = ours.apply(variables, XS, initial_carry=carry, **call)
    assert_trees_close(jnp.swapaxes(ys, 0, 1), batch_first[1] if call.get("return_carry") else batch_first, 1e-6)


class Tagger(nn.Module):
    """A user's model; ``rnn`` is Flax's module or ours."""

    rnn: type

    @nn.compact
    def __call__(self, xs):
        both = nn.Bidirectional(self.rnn(nn.OptimizedLSTMCell(H)), self.rnn(nn.OptimizedLSTMCell(H)))(xs)
        return nn.Dense(2)(self.rnn(nn.GRUCell(H))(both))


def test_linen_checkpoint_of_a_whole_model_loads():
    variables = Tagger(nn.RNN).init(KEY, XS)
    assert set(flatten_dict(Tagger(linen.RNN).init(KEY, XS))) == set(flatten_dict(variables))

    def loss(params, rnn):
        return jnp.sum(Tagger(rnn).apply(params, XS) ** 2)

    results = [jax.value_and_grad(loss)(variables, rnn) for rnn in (linen.RNN, nn.RNN)]
    assert_trees_close(*results, 1e-5)


def test_linen_under_jit_vmap_remat_and_scan():
    layer = linen.RNN(nn.OptimizedLSTMCell(D))
    variables = layer.init(KEY, XS)
    want = layer.apply(variables, XS)
    assert_trees_close(jax.jit(layer.apply)(variables, XS), want, 1e-6)
    assert_trees_close(jax.vmap(layer.apply, (None, 0))(variables, XS), want, 1e-6)
    remat = nn.remat(linen.RNN)(nn.OptimizedLSTMCell(D))
    assert_trees_close(remat.apply(variables, XS), want, 1e-6)
    gradients = [jax.grad(lambda v, m=m: jnp.sum(m.apply(v, XS) ** 2))(variables) for m in (remat, layer)]
    assert_trees_close(*gradients, 1e-5)

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, xs, _):
            return linen.RNN(nn.OptimizedLSTMCell(D, name="cell"))(xs), None

    deep = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
    stacked = deep.init(KEY, XS, None)
    assert stacked["params"]["cell"]["ii"]["kernel"].shape == (3, D, D)
    xs = XS
    for k in range(3):
        xs = layer.apply({"params": jax.tree.map(lambda leaf, k=k: leaf[k], stacked["params"])}, xs)
    assert_trees_close(deep.apply(stacked, XS, None)[0], xs, 1e-6)


@flax_promotes
def test_linen_dtypes_partitioning_and_resets():
    names = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    cell = nn.OptimizedLSTMCell(H, dtype=jnp.bfloat16, kernel_init=names)
    layer = linen.RNN(cell, return_carry=True)
    variables = layer.init(KEY, XS)
    assert isinstance(variables["params"]["cell"]["ii"]["kernel"], nn.Partitioned)
    (c, h), ys = layer.apply(variables, XS)
    assert (c.dtype, h.dtype, ys.dtype) == (FLOAT, jnp.bfloat16, jnp.bfloat16)
    assert variables["params"]["cell"]["hi"]["bias"].dtype == FLOAT
    specs = nn.get_partition_spec(variables)["params"]["cell"]["ii"]["kernel"]
    assert specs == jax.sharding.PartitionSpec(None, "model")

    plain = linen.RNN(nn.OptimizedLSTMCell(H))
    weights = nn.meta.unbox(variables)
    ys = plain.apply(weights, XS, resets=jnp.zeros((B, T), bool).at[:, 3].set(True))
    assert_trees_close(ys[:, 3:], plain.apply(weights, XS[:, 3:]), 1e-6)


# nnx


@every_call
@every_cell
def test_nnx_rnn_is_flaxs_own(name, call):
    cell = getattr(nnx, name)(D, H, rngs=nnx.Rngs(0))
    carry = random_carry(name)
    want = nnx.RNN(cell)(XS, initial_carry=carry, **call)
    ours = ours_nnx.RNN(cell)
    assert_trees_close(only_valid(ours(XS, initial_carry=carry, **call), call), only_valid(want, call), 1e-6)
    params = [nnx.to_pure_dict(nnx.state(rnn, nnx.Param)) for rnn in (ours, nnx.RNN(cell))]
    assert_trees_close(*params, 0)


def test_nnx_under_its_own_transformations_and_plain_ones():
    layer = ours_nnx.RNN(nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0)))
    want = layer(XS)

    def loss(layer, xs):
        return jnp.sum(layer(xs) ** 2)

    assert_trees_close(nnx.jit(lambda layer, xs: layer(xs))(layer, XS), want, 1e-6)
    assert_trees_close(nnx.vmap(lambda layer, xs: layer(xs), in_axes=(None, 0))(layer, XS), want, 1e-6)
    gradient = nnx.grad(loss)(layer, XS)
    graph, state = nnx.split(layer)

    def pure(state, xs):
        return loss(nnx.merge(graph, state), xs)

    assert_trees_close(jax.jit(jax.grad(pure))(state, XS), gradient, 1e-6)
    assert_trees_close(jax.vmap(lambda x: nnx.merge(graph, state)(x))(XS), want, 1e-6)
    assert jax.tree.leaves(jax.hessian(pure, 1)(state, XS[:1, :2]))[0].shape == (1, 2, D, 1, 2, D)

    @nnx.scan(in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=2)
    def twice(xs, layer):
        return layer(xs)[..., :D]

    square = ours_nnx.RNN(nnx.OptimizedLSTMCell(D, D, rngs=nnx.Rngs(0)))
    assert_trees_close(twice(XS, square), square(square(XS)), 1e-6)
    assert_trees_close(nnx.remat(lambda layer, xs: layer(xs))(layer, XS), want, 1e-6)


def test_a_named_state_goes_in_by_name():
    cell = nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0))
    c, h = random_carry("LSTMCell")
    layer = ours_nnx.RNN(cell)
    want = layer(XS, initial_carry=(c, h))
    assert_trees_close(layer(XS, initial_carry=lj.LSTMState(h=h, c=c)), want, 0)
