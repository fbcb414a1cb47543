"""Flax modules around ``lstm_stack``: its results, dropout, dtypes, partitioning, training, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from problems import assert_trees_close
from test_flax_rnn import KEY, LENGTHS, XS, B, D, H, T, flax_promotes

import lstm_jax as lj
from lstm_jax.flax_modules import linen
from lstm_jax.flax_modules import nnx as ours_nnx

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
    layer = STACKS["linen"](dropout_rate=0.5)
    variables = layer.init(KEY, xs)
    still = layer.apply(variables, xs)[1]
    assert_trees_close(still, STACKS["linen"]().apply(variables, xs)[1], 0)
    draws = [layer.apply(variables, xs, deterministic=False, rngs={"dropout": jax.random.key(k)})[1] for k in (0, 0, 1)]
    assert_trees_close(draws[0], draws[1], 0)
    assert np.abs(draws[0] - draws[2]).max() > 0
    module = STACKS["nnx"](dropout_rate=0.5)
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


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_stacks_take_a_function_between_layers(make):
    xs = jnp.swapaxes(XS, 0, 1)
    layer = make(dropout_rate=0.5)
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
        "resets: got shape .*in this message time comes first",
    ),
    "dropout": (
        lambda: ours_nnx.LSTMStack(D, H, dropout_rate=1.5, rngs=nnx.Rngs(0)),
        "dropout_rate: got 1.5, want a rate",
    ),
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


def test_stacks_take_every_scheme():
    """The chrono forget bias is log U(1, max_time - 1)."""
    layer = linen.LSTMStack(H, scheme="chrono", max_time=50).init(KEY, jnp.swapaxes(XS, 0, 1))["params"]["layer_0"]
    module = ours_nnx.LSTMStack(D, H, scheme="chrono", max_time=50, rngs=nnx.Rngs(0)).layer_0
    for bias in (layer["bias"], module.bias[...]):
        horizon = jnp.exp(bias[H : 2 * H])
        assert ((horizon >= 1) & (horizon <= 49)).all()
        assert jnp.allclose(bias[:H], -bias[H : 2 * H])


@flax_promotes
@pytest.mark.parametrize("wrap", [np.asarray, nnx.Variable], ids=["numpy", "variable"])
def test_arrays_may_be_of_numpy_or_variables(wrap):
    """Inputs, states, lengths and resets of all four modules, eager and traced."""
    xs, resets = jnp.swapaxes(XS, 0, 1), jnp.zeros((T, B), bool).at[2].set(True)
    state = tuple(lj.LSTMState(*jnp.ones((2, B, H), jnp.float32)) for _ in range(2))
    layer = STACKS["linen"]()
    variables = layer.init(KEY, xs)
    for run in (lambda *args, **options: layer.apply(variables, *args, **options), STACKS["nnx"]()):
        want = run(xs, state, lengths=LENGTHS, resets=resets)
        wrapped = jax.tree.map(wrap, (xs, state, resets))
        assert_trees_close(run(wrapped[0], wrapped[1], lengths=np.asarray(LENGTHS), resets=wrapped[2]), want, 0)
    for kind, carry in (("OptimizedLSTMCell", state[0]), ("GRUCell", state[0].h)):
        module = linen.RNN(getattr(nn, kind)(H))
        variables = module.init(KEY, XS)
        for run in (
            lambda *args, module=module, variables=variables, **options: module.apply(variables, *args, **options),
            ours_nnx.RNN(getattr(nnx, kind)(D, H, rngs=nnx.Rngs(0))),
        ):
            want = run(XS, initial_carry=carry, seq_lengths=LENGTHS, resets=resets.T)
            wrapped = jax.tree.map(wrap, (XS, carry, LENGTHS, resets.T))
            options = dict(zip(("initial_carry", "seq_lengths", "resets"), wrapped[1:], strict=True))
            assert_trees_close(run(wrapped[0], **options), want, 0)


def test_modules_are_reached_from_the_package():
    assert lj.flax_modules.linen is linen
    assert lj.flax_modules.nnx is ours_nnx
    assert {"linen", "nnx"} <= set(dir(lj.flax_modules))
    with pytest.raises(AttributeError, match="no attribute 'haiku'"):
        _ = lj.flax_modules.haiku
