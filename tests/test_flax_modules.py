"""Flax modules: the same results as Flax's own from the same parameters, inside Flax's and JAX's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.fixture
def standard_promotion():
    """Flax and optax mix dtypes, which the tests forbid for our own code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def only_valid(result, call):
    """Outputs behind a length are 0 here and anything in Flax."""
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
    theirs, mine = nn.RNN(getattr(nn, name)(H)), linen.RNN(getattr(nn, name)(H))
    variables = theirs.init(KEY, XS)
    assert_trees_close(mine.init(KEY, XS), variables, 0)
    carry = random_carry(name)
    want = theirs.apply(variables, XS, initial_carry=carry, **call)
    assert_trees_close(
        only_valid(mine.apply(variables, XS, initial_carry=carry, **call), call), only_valid(want, call), 1e-6
    )
    time_first = mine.apply(variables, jnp.swapaxes(XS, 0, 1), initial_carry=carry, time_major=True, **call)
    ys = time_first[1] if call.get("return_carry") else time_first
    again = mine.apply(variables, XS, initial_carry=carry, **call)
    assert_trees_close(jnp.swapaxes(ys, 0, 1), again[1] if call.get("return_carry") else again, 1e-6)


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
    mine = ours_nnx.RNN(cell)
    assert_trees_close(only_valid(mine(XS, initial_carry=carry, **call), call), only_valid(want, call), 1e-6)
    params = [nnx.to_pure_dict(nnx.state(rnn, nnx.Param)) for rnn in (mine, nnx.RNN(cell))]
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


# the stacks


STACKS = {
    "linen": lambda **options: linen.LSTMStack(H, 2, **options),
    "nnx": lambda **options: ours_nnx.LSTMStack(D, H, 2, rngs=nnx.Rngs(0, dropout=1), **options),
}


def layers_of(tree, bidirectional):
    def params(name):
        return lj.LSTMParams(**tree[name])

    if not bidirectional:
        return tuple(params(f"layer_{k}") for k in range(2))
    return tuple(lj.Bidirectional(params(f"layer_{k}_forward"), params(f"layer_{k}_backward")) for k in range(2))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks_are_lstm_stack(bidirectional):
    xs = jnp.swapaxes(XS, 0, 1)
    options = {"lengths": LENGTHS, "resets": jnp.zeros((T, B), bool).at[2].set(True), "remat": 3}
    layer = STACKS["linen"](bidirectional=bidirectional)
    variables = layer.init(KEY, xs)
    tree = variables["params"]
    assert_trees_close(
        layer.apply(variables, xs, **options), lj.lstm_stack(layers_of(tree, bidirectional), xs, **options), 1e-6
    )
    module = STACKS["nnx"](bidirectional=bidirectional)
    tree = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    assert_trees_close(module(xs, **options), lj.lstm_stack(layers_of(tree, bidirectional), xs, **options), 1e-6)


def test_stacks_drop_between_layers_in_training_only():
    xs = jnp.swapaxes(XS, 0, 1)
    layer = STACKS["linen"](dropout=0.5)
    variables = layer.init(KEY, xs)
    still = layer.apply(variables, xs)[1]
    assert_trees_close(still, STACKS["linen"]().apply(variables, xs)[1], 0)
    draws = [layer.apply(variables, xs, deterministic=False, rngs={"dropout": jax.random.key(k)})[1] for k in (0, 0, 1)]
    assert_trees_close(draws[0], draws[1], 0)
    assert np.abs(draws[0] - draws[2]).max() > 0
    module = STACKS["nnx"](dropout=0.5)
    module.eval()
    assert_trees_close(module(xs)[1], STACKS["nnx"]()(xs)[1], 0)
    module.train()
    assert np.abs(module(xs)[1] - module(xs)[1]).max() > 0


@flax_promotes
def test_stacks_carry_partitioning_and_dtypes():
    axes = lj.LSTMParams((None, "model"), (None, "model"), ("model",))
    xs = jnp.swapaxes(XS, 0, 1)
    layer = STACKS["linen"](partitioning=axes, dtype=jnp.bfloat16)
    variables = layer.init(KEY, xs)
    assert nn.get_partition_spec(variables)["params"]["layer_0"]["bias"] == jax.sharding.PartitionSpec("model")
    assert layer.apply(variables, xs)[1].dtype == jnp.bfloat16
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        module = STACKS["nnx"](partitioning=axes, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
        specs = nnx.get_partition_spec(nnx.state(module, nnx.Param))
        assert module(xs)[1].dtype == jnp.bfloat16
    assert specs["layer_1"]["input_kernel"].get_value() == jax.sharding.PartitionSpec(None, "model")


@flax_promotes
def test_training_with_optax_and_nnx_optimizer():
    """The loss of a small regression falls, in linen with optax and in nnx with its own optimizer."""
    xs = jnp.swapaxes(XS, 0, 1)
    target = jnp.cumsum(xs[..., :1], axis=0)
    layer = linen.LSTMStack(16)
    variables = layer.init(KEY, xs)
    optimizer = optax.adam(0.01)

    def error(ys):
        return jnp.mean((ys[..., :1] - jnp.tanh(target)) ** 2)

    state = optimizer.init(variables)
    step = jax.jit(jax.value_and_grad(lambda variables: error(layer.apply(variables, xs)[1])))
    losses = []
    for _ in range(60):
        loss, gradient = step(variables)
        losses.append(float(loss))
        updates, state = optimizer.update(gradient, state)
        variables = optax.apply_updates(variables, updates)
    assert losses[-1] < losses[0] / 2

    module = ours_nnx.LSTMStack(D, 16, rngs=nnx.Rngs(0))
    trainer = nnx.Optimizer(module, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def update(module, trainer):
        loss, gradient = nnx.value_and_grad(lambda module: error(module(xs)[1]))(module)
        trainer.update(module, gradient)
        return loss

    losses = [float(update(module, trainer)) for _ in range(60)]
    assert losses[-1] < losses[0] / 2


def test_a_named_state_goes_in_by_name():
    cell = nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0))
    c, h = random_carry("LSTMCell")
    layer = ours_nnx.RNN(cell)
    want = layer(XS, initial_carry=(c, h))
    assert_trees_close(layer(XS, initial_carry=lj.LSTMState(h=h, c=c)), want, 0)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_stacks_take_a_function_between_layers(make):
    xs = jnp.swapaxes(XS, 0, 1)
    layer = make(dropout=0.5)
    if isinstance(layer, nn.Module):
        layer = layer.bind(layer.init(KEY, xs))
    else:
        layer.eval()
    halved = layer(xs, between=lambda layer, inputs, outputs: outputs / 2)[1]
    assert np.abs(halved - layer(xs)[1]).max() > 0


FAULTS = {
    "three carries": (
        lambda: ours_nnx.RNN(nnx.LSTMCell(D, H, rngs=nnx.Rngs(0)))(XS, initial_carry=(XS, XS, XS)),
        r"initial_carry: got tuple, want Flax's pair \(c, h\)",
    ),
    "resets turned": (
        lambda: linen.RNN(nn.LSTMCell(H)).init(KEY, XS, resets=jnp.zeros((T, B), bool)),
        "resets: got shape .*in the engine's terms: time first",
    ),
    "dropout": (lambda: ours_nnx.LSTMStack(D, H, dropout=1.5, rngs=nnx.Rngs(0)), "dropout: got 1.5, want a rate"),
    "linen cell": (lambda: linen.RNN(nn.SimpleCell(H)).init(KEY, XS), "cell: got SimpleCell, want one of LSTMCell"),
    "linen gate": (
        lambda: linen.RNN(nn.LSTMCell(H, activation_fn=nn.relu)).init(KEY, XS),
        "cell.activation_fn: got .*relu.*, want tanh",
    ),
    "nnx cell": (lambda: ours_nnx.RNN(nnx.SimpleCell(D, H, rngs=nnx.Rngs(0))), "cell: got SimpleCell, want one of"),
    "nnx gate": (
        lambda: ours_nnx.RNN(nnx.LSTMCell(D, H, gate_fn=nnx.hard_sigmoid, rngs=nnx.Rngs(0))),
        "cell.gate_fn: got .*hard_sigmoid.*, want sigmoid",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_engine_does_not_compute_is_named(name):
    call, message = FAULTS[name]
    with pytest.raises(ValueError, match=message):
        call()
