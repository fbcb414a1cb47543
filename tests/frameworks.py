"""One step of each JAX framework's own cell, and its own randomly filled weights, for comparing conversions."""

import os
from functools import wraps
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax import interop

FLOAT = jnp.float32
os.environ.setdefault("KERAS_BACKEND", "jax")


class Framework(NamedTuple):
    """``state`` is h, or (h, c) for an LSTM."""

    weights: object
    """``weights(D, H)``: the framework's own tree"""
    step: object
    """``step(weights, state, x [B, D]) -> state``"""
    load: object
    """our import"""
    store: object
    """our export"""


def randomized(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.5, FLOAT), tree)


def lenient(step):
    """Some frameworks broadcast ranks, which the tests forbid for our own code."""

    @wraps(step)
    def run(*arguments, **options):
        with jax.numpy_rank_promotion("allow"):
            return step(*arguments, **options)

    return run


def linen(name):
    from flax import linen as nn

    gru = name == "GRUCell"

    def cell(hidden):
        return getattr(nn, name)(hidden)

    def weights(inputs, hidden):
        carry = jnp.zeros((1, hidden), FLOAT) if gru else (jnp.zeros((1, hidden), FLOAT),) * 2
        return randomized(cell(hidden).init(jax.random.key(0), carry, jnp.zeros((1, inputs), FLOAT))["params"])

    def step(weights, state, x):
        module = cell(jax.tree.leaves(state)[0].shape[-1])
        carry, _ = module.apply({"params": weights}, state if gru else state[::-1], x)
        return carry if gru else carry[::-1]

    load, store = (
        (interop.linen.import_gru, interop.linen.export_gru)
        if gru
        else (interop.linen.import_lstm, interop.linen.export_lstm)
    )
    return Framework(weights, step, load, store)


def nnx(name):
    from flax import nnx

    gru = name == "GRUCell"

    def cell(inputs, hidden):
        return getattr(nnx, name)(inputs, hidden, rngs=nnx.Rngs(0))

    def weights(inputs, hidden):
        return randomized(nnx.to_pure_dict(nnx.state(cell(inputs, hidden), nnx.Param)))

    def step(weights, state, x):
        module = cell(x.shape[-1], jax.tree.leaves(state)[0].shape[-1])
        params = nnx.state(module, nnx.Param)
        nnx.replace_by_pure_dict(params, weights)
        nnx.update(module, params)
        carry, _ = module(state if gru else state[::-1], x)
        return carry if gru else carry[::-1]

    if gru:
        return Framework(weights, step, interop.nnx.import_gru, interop.nnx.export_gru)
    return Framework(weights, step, interop.nnx.import_lstm, lambda params: interop.nnx.export_lstm(params, name))


def haiku(name):
    import haiku as hk

    def weights(inputs, hidden):
        return randomized({"w": np.zeros((inputs + hidden, 4 * hidden)), "b": np.zeros(4 * hidden)})

    def step(weights, state, x):
        def run(x, state):
            return hk.LSTM(state[0].shape[-1], name="lstm")(x, hk.LSTMState(*state))

        _, (h, c) = hk.transform(run).apply({"lstm/linear": weights}, None, x, state)
        return h, c

    return Framework(weights, step, interop.haiku.import_lstm, interop.haiku.export_lstm)


def equinox(name):
    import equinox as eqx

    gru = name == "GRUCell"
    names = ("weight_ih", "weight_hh", "bias", "bias_n") if gru else ("weight_ih", "weight_hh", "bias")

    def fill(cell, arrays):
        return eqx.tree_at(lambda cell: tuple(getattr(cell, part) for part in names), cell, arrays)

    def weights(inputs, hidden):
        return randomized(getattr(eqx.nn, name)(inputs, hidden, key=jax.random.key(0)))

    def store(params):
        arrays = (interop.equinox.export_gru if gru else interop.equinox.export_lstm)(params)
        inputs, hidden = params.input_kernel.shape[0], params.recurrent_kernel.shape[0]
        return fill(getattr(eqx.nn, name)(inputs, hidden, key=jax.random.key(0)), arrays)

    def step(weights, state, x):
        return jax.vmap(weights)(x, state)

    return Framework(weights, step, interop.equinox.import_gru if gru else interop.equinox.import_lstm, store)


def keras(name):
    import keras

    gru = name == "GRUCell"

    def cell(inputs, hidden):
        layer = getattr(keras.layers, name)(hidden, dtype="float32")
        layer.build((None, inputs))
        return layer

    def weights(inputs, hidden):
        return randomized([variable.value for variable in cell(inputs, hidden).trainable_variables])

    def step(weights, state, x):
        module = cell(x.shape[-1], jax.tree.leaves(state)[0].shape[-1])
        fixed = [variable.value for variable in module.non_trainable_variables]
        (_, after), _ = module.stateless_call(weights, fixed, x, [state] if gru else list(state))
        return after[0] if gru else tuple(after)

    if gru:
        return Framework(lenient(weights), lenient(step), interop.keras.import_gru, interop.keras.export_gru)
    return Framework(lenient(weights), lenient(step), interop.keras.import_lstm, interop.keras.export_lstm)


LSTMS = [
    (linen, "LSTMCell"),
    (linen, "OptimizedLSTMCell"),
    (nnx, "LSTMCell"),
    (nnx, "OptimizedLSTMCell"),
    (haiku, "LSTM"),
    (equinox, "LSTMCell"),
    (keras, "LSTMCell"),
]
GRUS = [(linen, "GRUCell"), (nnx, "GRUCell"), (equinox, "GRUCell"), (keras, "GRUCell")]
