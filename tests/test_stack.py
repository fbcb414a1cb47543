"""Stacks: each law against layers called by hand, and names in errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_trees_close

import lstm_jax as lj
from lstm_jax.cells import GRU, PROJECTED_LSTM, GRUParams

T, B, D, H = 11, 3, 4, 5
FLOAT = jnp.float64


def data(seed=0):
    rng = np.random.default_rng(seed)
    xs = jnp.asarray(rng.normal(size=(T, B, D)))
    options = {"lengths": jnp.array([T, 0, 6]), "resets": jnp.asarray(rng.random((T, B)) < 0.2)}
    return xs, options


def random_states(states, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), states)


def by_hand(layers, xs, initial, reset, options):
    """Both directions of each layer by separate calls of ``lstm``."""
    finals = []
    for params, state, reset_state in zip(layers, initial, reset, strict=True):
        forward, ys = lj.lstm(params.forward, xs, state.forward, reset_state=reset_state.forward, **options)
        backward, ys_reverse = lj.lstm(
            params.backward, xs, state.backward, reset_state=reset_state.backward, reverse=True, **options
        )
        finals.append(lj.Bidirectional(forward, backward))
        xs = jnp.concatenate([ys, ys_reverse], axis=-1)
    return tuple(finals), xs


@pytest.mark.parametrize("remat", ["gates", 3])
def test_layers_and_directions_with_every_option(remat):
    layers = lj.init_stack(jax.random.key(0), D, H, 2, bidirectional=True, dtype=FLOAT)
    xs, options = data()
    zeros = lj.stack_zero_state(layers, (B,))
    initial, reset = random_states(zeros, 1), random_states(zeros, 2)

    def gradient_and_result(run, *arguments):
        def loss(*arguments):
            result = run(*arguments)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(result)), result

        return jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(*arguments)

    def ours(layers, xs, initial, reset):
        return lj.lstm_stack(layers, xs, initial, reset_state=reset, remat=remat, **options)

    def plain(layers, xs, initial, reset):
        return by_hand(layers, xs, initial, reset, options)

    arguments = (layers, xs, initial, reset)
    assert_trees_close(gradient_and_result(ours, *arguments), gradient_and_result(plain, *arguments), 1e-12)


def test_padding_and_boundaries_hold_in_every_layer():
    """A value after a length, or beyond a boundary in either direction, reaches nothing of a row's other part."""
    layers = lj.init_stack(jax.random.key(0), D, H, 2, bidirectional=True, dtype=FLOAT)
    xs, _ = data()
    resets, lengths = np.zeros((T, B), bool), jnp.full(B, 9)
    resets[5] = True
    finals, ys = jax.tree.map(np.asarray, lj.lstm_stack(layers, xs, lengths=lengths, resets=resets))
    changed, nans = np.array(xs), np.array(xs)
    changed[5:] += 1.0
    nans[9:] = np.nan
    ys_changed = np.asarray(lj.lstm_stack(layers, changed, lengths=lengths, resets=resets)[1])
    np.testing.assert_array_equal(ys_changed[:5], ys[:5])
    assert np.abs(ys_changed[5:9] - ys[5:9]).min(axis=-1).max() > 0
    assert_trees_close(lj.lstm_stack(layers, nans, lengths=lengths, resets=resets), (finals, ys), 0)


def test_between_acts_after_each_layer_but_the_last():
    layers = lj.init_stack(jax.random.key(0), H, H, 3, dtype=FLOAT)
    xs = random_states(jnp.zeros((T, B, H)))
    calls = []

    def residual(layer, inputs, outputs):
        calls.append(layer)
        return inputs + outputs

    _, ys = lj.lstm_stack(layers, xs, between=residual)
    assert calls == [0, 1]
    inner = xs
    for params in layers[:2]:
        inner = inner + lj.lstm(params, inner)[1]
    np.testing.assert_allclose(ys, lj.lstm(layers[2], inner)[1], rtol=1e-12)


def test_layers_of_different_width_and_kind():
    keys = jax.random.split(jax.random.key(0), 2)
    layers = (
        PROJECTED_LSTM.init(keys[0], D, 7, projection_size=3, dtype=FLOAT),
        lj.init_params(keys[1], 3, H, dtype=FLOAT),
    )
    xs, options = data()
    (first, second), ys = lj.lstm_stack(layers, xs, **options)
    assert (first.h.shape, first.c.shape, second.h.shape, ys.shape) == ((B, 3), (B, 7), (B, H), (T, B, H))
    zeros = lj.stack_zero_state(layers, (B,))
    assert_trees_close(lj.lstm_stack(layers, xs, zeros, **options), ((first, second), ys), 0)


def test_each_layer_and_direction_is_drawn_by_itself():
    layers = lj.init_stack(jax.random.key(0), 2 * H, H, 2, bidirectional=True, dtype=FLOAT)
    kernels = [np.asarray(params.input_kernel).tobytes() for layer in layers for params in layer]
    assert len(set(kernels)) == len(kernels) == 4


def test_any_cell():
    kernel = random_states(jnp.zeros((D, 3 * H)))
    params = [
        GRUParams(k, random_states(jnp.zeros((H, 3 * H))), jnp.ones(3 * H), jnp.ones(H)) for k in (kernel, kernel[:H])
    ]
    params[1] = params[1]._replace(input_kernel=random_states(jnp.zeros((H, 3 * H)), 5))
    xs, options = data()
    finals, ys = lj.unroll_stack(GRU, params, xs, reverse=True, **options)
    first, inner = lj.unroll(GRU, params[0], xs, reverse=True, **options)
    second, want = lj.unroll(GRU, params[1], inner, reverse=True, **options)
    assert_trees_close((finals, ys), ((first, second), want), 0)
    assert lj.stack_zero_state(params, (B,), GRU)[1].shape == (B, H)


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 3), tuple(range(1, T))])
def test_any_chunking_equals_the_whole_run(cuts):
    """Streaming: the states of one piece start the next."""
    layers = lj.init_stack(jax.random.key(0), D, H, 2, dtype=FLOAT)
    xs, options = data()
    resets = options["resets"]
    want = lj.lstm_stack(layers, xs, resets=resets)
    state, pieces = None, []
    for start, end in zip((0, *cuts), (*cuts, T), strict=True):
        state, ys = lj.lstm_stack(layers, np.asarray(xs)[start:end], state, resets=np.asarray(resets)[start:end])
        pieces.append(ys)
    assert_trees_close((state, np.concatenate(pieces)), want, 1e-14)


def test_one_step_at_a_time_inside_a_scan():
    layers = lj.init_stack(jax.random.key(0), D, H, 2, dtype=FLOAT)
    xs, _ = data()

    def step(states, x):
        states, ys = lj.lstm_stack(layers, x[None], states)
        return states, ys[0]

    got = jax.lax.scan(step, lj.stack_zero_state(layers, (B,)), xs)
    assert_trees_close(got, lj.lstm_stack(layers, xs), 1e-14)


def mistakes():
    plain, both = (lj.init_stack(jax.random.key(0), D, H, 2, bidirectional=flag, dtype=FLOAT) for flag in (False, True))
    xs, _ = data()
    state = lj.zero_state(plain[0], (B,))
    return {
        "one layer's parameters": (lambda: lj.lstm_stack(plain[0], xs), "layers: got LSTMParams, want a tuple"),
        "no layers": (lambda: lj.lstm_stack((), xs), "layers: got no layer, want a tuple"),
        "a state for one": (lambda: lj.lstm_stack(plain, xs, state), "initial_state: got LSTMState, want a tuple of 2"),
        "too few states": (lambda: lj.lstm_stack(plain, xs, (state,)), "initial_state: got 1 parts, want a tuple of 2"),
        "one direction's state": (
            lambda: lj.lstm_stack(both, xs, (state, state)),
            r"layers\[0\]: initial_state: got LSTMState, want Bidirectional",
        ),
        "reverse of both": (lambda: lj.lstm_stack(both, xs, reverse=True), r"reverse: got True, but the layer"),
        "a layer too narrow": (lambda: lj.lstm_stack((plain[0], plain[0]), xs), r"layers\[1\]: xs: got 5 features"),
        "no count": (lambda: lj.init_stack(jax.random.key(0), D, H, 0), "num_layers: got 0, want an integer"),
    }


@pytest.mark.parametrize("name", mistakes())
def test_a_mistake_is_named(name):
    call, message = mistakes()[name]
    with pytest.raises(ValueError, match=message):
        call()
