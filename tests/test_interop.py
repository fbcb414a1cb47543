"""Weights of the JAX frameworks: the same outputs, states and gradients as their own cells, and the same bits back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frameworks import FLOAT, GRUS, LSTMS, keras, lenient, linen, nnx, randomized
from problems import assert_trees_close

import lstm_jax as lj
from lstm_jax import interop
from lstm_jax.cells import GRU, GRUParams

T, B = 6, 3
SIZES = [(4, 5), (1, 7), (9, 1), (6, 16)]

named = {"argvalues": LSTMS + GRUS, "ids": [f"{load.__name__}-{name}" for load, name in LSTMS + GRUS]}


def data(inputs, hidden, gru, seed):
    rng = np.random.default_rng(seed)
    xs, h, c, weight = (rng.normal(size=s) for s in ((T, B, inputs), (B, hidden), (B, hidden), (T, B, hidden)))
    xs, h, c, weight = (jnp.asarray(array, FLOAT) for array in (xs, h, c, weight))
    return xs, (h if gru else (h, c)), weight


def theirs(step, weights, xs, state):
    ys = []
    for x in xs:
        state = step(weights, state, x)
        ys.append(jax.tree.leaves(state)[0])
    return state, jnp.stack(ys)


def ours(load, gru, weights, xs, state):
    if gru:
        return lj.unroll(GRU, load(weights), xs, state)
    final, ys = lj.lstm(load(weights), xs, lj.LSTMState(*state))
    return tuple(final), ys


def assert_close_in_f32(got, want, limit=1e-6):
    """To a share of the largest entry, or of 1."""
    for array, wanted in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert array.dtype == wanted.dtype == FLOAT
        np.testing.assert_allclose(array, wanted, rtol=0, atol=limit * max(1.0, float(jnp.abs(wanted).max())))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("make", "name"), **named)
def test_outputs_states_and_gradients(make, name, sizes):
    """The gradients are with respect to the framework's weights, inputs and state, ours through the conversion.

    Either side's gradient is within about 1e-6 of float64 (a GRU with jax 0.12: ours 0.6e-6, Flax's own 1.0e-6), so the
    two are at most twice that apart; outputs and states 1e-6.
    """
    gru = name == "GRUCell"
    framework = make(name)
    weights = framework.weights(*sizes)
    xs, state, weight = data(*sizes, gru, seed=sizes[0])
    load = traceable(make, framework)

    def loss(run):
        def of(weights, xs, state):
            final, ys = run(weights, xs, state)
            return jnp.sum(ys * weight) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(final)), (final, ys)

        return jax.jit(jax.grad(of, (0, 1, 2), has_aux=True))

    want = loss(lambda *args: theirs(framework.step, *args))(weights, xs, state)
    got = loss(lambda *args: ours(load, gru, *args))(weights, xs, state)
    assert_close_in_f32(got[1], want[1])
    assert_close_in_f32(got[0], want[0], 2e-6)


def traceable(make, framework):
    """Keras weights go through NumPy; for a gradient with respect to them the same conversion in JAX is wanted."""
    if make is not keras:
        return framework.load

    def load(weights):
        if len(weights[2].shape) == 1:
            return lj.LSTMParams(*weights)
        kernel, recurrent, biases = (interop.arrays.reorder_gates(leaf, "zrn", "rzn") for leaf in weights)
        size = recurrent.shape[0]
        merged = jnp.concatenate([biases[0, : 2 * size] + biases[1, : 2 * size], biases[0, 2 * size :]])
        return GRUParams(kernel, recurrent, merged, biases[1, 2 * size :])

    return load


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("make", "name"), **named)
def test_a_round_trip_gives_the_same_bits(make, name, sizes):
    framework = make(name)
    weights = framework.weights(*sizes)
    params = framework.load(weights)
    back = framework.store(params)
    assert jax.tree.structure(back) == jax.tree.structure(weights)
    for array, original in zip(jax.tree.leaves(back), jax.tree.leaves(weights), strict=True):
        if name == "LSTM" and array.ndim == 1:  # Haiku's forget bias: the 1 added at run time rounds
            np.testing.assert_allclose(array, original, rtol=0, atol=2 * jnp.finfo(FLOAT).eps)
            continue
        if name == "GRUCell" and array.ndim == 2 and array.shape[0] == 2:  # Keras's two biases are merged by a rule
            continue
        np.testing.assert_array_equal(array, original)
    assert_trees_close(framework.load(back), params, 2 * jnp.finfo(FLOAT).eps if name == "LSTM" else 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("use_bias", [True, False])
@lenient
def test_keras_layers_with_two_directions_and_lengths(use_bias):
    """``get_weights`` of whole layers, LSTM and GRU, with a bias or without."""
    import keras as framework

    rng = np.random.default_rng(0)
    xs, lengths = rng.normal(size=(T, B, 4)).astype(np.float32), np.array([T, 2, 1])
    mask = np.arange(T)[None] < lengths[:, None]
    for kind, load, run in (
        ("LSTM", interop.keras.import_lstm, lj.lstm_stack),
        ("GRU", interop.keras.import_gru, lambda layers, xs, **o: lj.unroll_stack(GRU, layers, xs, **o)),
    ):
        inner = getattr(framework.layers, kind)(
            5, return_sequences=True, zero_output_for_mask=True, use_bias=use_bias, dtype="float32"
        )
        layer = framework.layers.Bidirectional(inner, dtype="float32")
        layer.build((B, T, 4))
        layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.get_weights()])
        want = np.asarray(layer(np.swapaxes(xs, 0, 1), mask=mask))
        params = load(layer.get_weights())
        assert isinstance(params, lj.Bidirectional)
        _, ys = run((params,), jnp.asarray(xs), lengths=jnp.asarray(lengths))
        np.testing.assert_allclose(np.swapaxes(ys, 0, 1), want, rtol=0, atol=1e-6)
        store = interop.keras.export_lstm if kind == "LSTM" else interop.keras.export_gru
        layer.set_weights(store(params, use_bias=use_bias))
        np.testing.assert_allclose(layer(np.swapaxes(xs, 0, 1), mask=mask), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_flat_vector_of_cudnn(layers, bidirectional):
    """Against the reference in plain JAX that ``jax.experimental.rnn`` keeps beside its kernel."""
    from jax.experimental import rnn

    inputs, hidden, directions = 4, 5, 1 + bidirectional
    vector = rnn.init_lstm_weight(jax.random.key(0), inputs, hidden, layers, bidirectional).astype(FLOAT)
    params = interop.cudnn.import_lstm(vector, inputs, hidden, layers, bidirectional=bidirectional)
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(T, B, inputs)), FLOAT)
    h, c = jnp.asarray(rng.normal(size=(2, layers * directions, B, hidden)), FLOAT)
    weights = rnn.unpack_lstm_weights(vector, inputs, hidden, layers, bidirectional)
    lengths = jnp.full(B, T, jnp.int32)
    ys, h_n, c_n = rnn.lstm_ref(
        jnp.swapaxes(xs, 0, 1), h, c, *weights, lengths, inputs, hidden, layers, 0.0, bidirectional
    )
    finals, outputs = lj.lstm_stack(params, xs, interop.torch.import_state(h, c, bidirectional=bidirectional))
    assert_close_in_f32(
        (outputs, *map(jnp.asarray, interop.torch.export_state(finals))), (jnp.swapaxes(ys, 0, 1), h_n, c_n)
    )
    exported = interop.cudnn.export_lstm(params)
    assert exported.shape == vector.shape
    assert_trees_close(
        interop.cudnn.import_lstm(exported, inputs, hidden, layers, bidirectional=bidirectional), params, 0
    )


def linen_box(array):
    from flax import linen as nn

    return nn.Partitioned(array, names=(None,) * array.ndim)


def faults():
    lstm, gru = lj.init_params(jax.random.key(0), 4, 5), GRUParams(*map(jnp.ones, ((4, 15), (5, 15), (15,), (5,))))
    flat, dense = interop.linen.export_lstm(lstm), interop.nnx.export_lstm(lstm)
    wrong = {**flat, "hf": {"kernel": jnp.zeros((4, 5)), "bias": jnp.zeros(5)}}
    wide = {"w": np.zeros((9, 20)), "b": np.zeros(20)}
    return {
        "linen missing": (
            lambda: interop.linen.import_lstm({k: v for k, v in flat.items() if k != "ig"}),
            "params: got no ig.kernel, want",
        ),
        "linen extra": (lambda: interop.linen.import_lstm({**flat, "norm": {"scale": 0}}), "unexpected norm.scale"),
        "linen shape": (
            lambda: interop.linen.import_lstm(wrong),
            r"params\['hf.kernel'\]: got shape \(4, 5\), want \[H, H\] with H = 5",
        ),
        "linen of another depth": (
            lambda: interop.linen.import_lstm(jax.tree.map(lambda leaf: leaf[None], flat)),
            r"params\['hi.kernel'\]: got shape \(1, 5, 5\), want \[H, H\]",
        ),
        "linen scopes": (lambda: interop.linen.import_lstm({"encoder": flat}), "unexpected encoder"),
        "linen array": (lambda: interop.linen.import_lstm({**flat, "ii": jnp.ones(3)}), "unexpected ii, want"),
        "linen boxed": (
            lambda: interop.linen.import_lstm(jax.tree.map(lambda leaf: linen_box(leaf), flat)),
            "got Partitioned, want arrays; see flax.linen.meta.unbox",
        ),
        "nnx missing": (
            lambda: interop.nnx.import_lstm({"dense_i": dense["dense_i"]}),
            "no dense_h.bias, dense_h.kernel",
        ),
        "nnx shape": (
            lambda: interop.nnx.import_lstm({**dense, "dense_i": {"kernel": jnp.zeros((4, 10))}}),
            r"dense_i.kernel'\]: got shape \(4, 10\), want \[D, 4H\] with H = 5",
        ),
        "nnx cell": (lambda: interop.nnx.export_lstm(lstm, "LSTM"), "cell_name: got 'LSTM', want one of"),
        "nnx GRU": (lambda: interop.nnx.export_gru(gru), "want 0: nnx.GRUCell has no b_hn"),
        "haiku extra": (lambda: interop.haiku.import_lstm({**wide, "g": 0}), "unexpected g"),
        "haiku shape": (
            lambda: interop.haiku.import_lstm({**wide, "b": np.zeros(16)}),
            r"params\['w'\]: got shape \(9, 20\)",
        ),
        "equinox kind": (lambda: interop.equinox.import_gru(lstm), "cell: got LSTMParams without weight_ih"),
        "keras count": (lambda: interop.keras.import_lstm([np.zeros(3)]), "weights: got 1 arrays, want 2 or 3"),
        "keras order": (
            lambda: interop.keras.import_gru([np.zeros((4, 15)), np.zeros((5, 15)), np.zeros(15)]),
            "reset_after=False the reset gate acts before the matrix product",
        ),
        "keras stack": (
            lambda: interop.keras.import_lstm([np.zeros(s) for s in ((8, 20), (5, 20), 20, (5, 20), (5, 20), 20)]),
            "both directions of a Bidirectional layer read the same inputs",
        ),
        "keras shape": (
            lambda: interop.keras.import_lstm([np.zeros((4, 15)), np.zeros((5, 20))]),
            r"weights\[0\]: got shape \(4, 15\), want \(4, 20\)",
        ),
        "keras bias": (lambda: interop.keras.export_lstm(lstm, use_bias=False), "want 0: a layer with use_bias=False"),
        "cudnn size": (
            lambda: interop.cudnn.import_lstm(jnp.zeros(9, FLOAT), 4, 5),
            r"weights: got shape \(9,\), want \(220,\)",
        ),
        "cudnn dtype": (
            lambda: interop.cudnn.export_lstm((jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), lstm),)),
            "layers: got bfloat16, want float32",
        ),
        "cudnn chain": (
            lambda: interop.cudnn.export_lstm((lstm, lstm)),
            r"layers\[1\].input_kernel: got shape \(4, 20\), want \(5, 20\)",
        ),
        "wrong kind": (lambda: interop.linen.export_lstm(gru), "params: got GRUParams, want LSTMParams"),
    }


@pytest.mark.parametrize("name", faults())
def test_what_cannot_be_converted_is_named(name):
    call, message = faults()[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_double_weights_are_not_cut():
    with jax.enable_x64(False), pytest.raises(ValueError, match="got float64, which JAX would cut to float32"):
        interop.keras.import_lstm([np.zeros((4, 20)), np.zeros((5, 20))])


def test_scopes_around_a_cell():
    params = lj.init_params(jax.random.key(0), 4, 5)
    for module, scopes in ((interop.linen, ("cell", "params")), (interop.nnx, ("cell",))):
        tree = module.export_lstm(params)
        for scope in scopes:
            tree = {scope: tree}
        assert_trees_close(module.import_lstm(tree), params, 0)
    haiku_tree = {"my_net/~/lstm/linear": interop.haiku.export_lstm(params)}
    assert_trees_close(interop.haiku.import_lstm(haiku_tree), params, 1e-6)


@pytest.mark.parametrize("name", ["OptimizedLSTMCell", "LSTMCell", "GRUCell"])
def test_a_state_of_nnx_is_imported_as_it_is(name):
    """``nnx.state`` holds variables, not arrays; in a traced function too."""
    from flax import nnx as flax_nnx

    state = flax_nnx.state(getattr(flax_nnx, name)(4, 5, rngs=flax_nnx.Rngs(0)), flax_nnx.Param)
    load = interop.nnx.import_gru if name == "GRUCell" else interop.nnx.import_lstm
    want = load(flax_nnx.to_pure_dict(state))
    assert_trees_close(load(state), want, 0)
    assert_trees_close(jax.jit(load)(state), want, 0)


EXPORTS = {
    "linen": interop.linen.export_lstm,
    "nnx": interop.nnx.export_lstm,
    "haiku": interop.haiku.export_lstm,
    "equinox": interop.equinox.export_lstm,
    "keras": interop.keras.export_lstm,
    "torch": lambda params: interop.torch.export_lstm((params,)),
    "cudnn": lambda params: interop.cudnn.export_lstm((params,)),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_parameters_may_be_variables_of_nnx_or_arrays_of_numpy(name):
    from flax import nnx as flax_nnx

    params = lj.init_params(jax.random.key(0), 4, 5)
    want = jax.tree.map(np.asarray, EXPORTS[name](params))
    for wrap in (flax_nnx.Param, np.asarray):
        exported = EXPORTS[name](lj.LSTMParams(*map(wrap, params)))
        assert_trees_close(jax.tree.map(np.asarray, exported), want, 0)
        assert jax.tree.structure(exported) == jax.tree.structure(want), "no variable is left"


def test_frameworks_share_their_trees():
    """The randomized weights are what the cells themselves make: no name is ours."""
    assert set(linen("LSTMCell").weights(2, 3)) == set(linen("OptimizedLSTMCell").weights(2, 3))
    assert set(nnx("LSTMCell").weights(2, 3)) != set(nnx("OptimizedLSTMCell").weights(2, 3))
    assert jax.tree.leaves(randomized({"a": np.zeros(2)}))[0].dtype == FLOAT
