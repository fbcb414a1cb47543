"""The helpers where users go wrong: lengths, episode ends, packed sequences, replay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax._core import steps

T, B, D, H = 9, 3, 2, 4
PARAMS = lj.init_params(jax.random.key(0), D, H)
XS = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float32)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.uint32, jnp.int32])
def test_reading_order_turns_what_was_read_and_leaves_the_padding(dtype):
    ys = np.broadcast_to(np.arange(1.0, 201.0)[:, None, None], (200, 3, 1))
    lengths = np.array([100, 0, 127])
    for given in (jnp.asarray(lengths.astype(dtype)), jnp.asarray(lengths)):
        got = np.asarray(jax.jit(steps.reading_order)(ys, given))[..., 0]
        for row, length in enumerate(lengths):
            np.testing.assert_array_equal(got[:length, row], np.arange(length, 0, -1))
            np.testing.assert_array_equal(got[length:, row], np.arange(200, length, -1))
    np.testing.assert_array_equal(jax.jit(steps.reading_order)(ys, np.full(3, 300)), ys[::-1])


def test_lengths_to_mask():
    mask = lj.lengths_to_mask(jnp.array([0, 2, 3]), 3)
    np.testing.assert_array_equal(mask.T, [[0, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert mask.dtype == bool
    assert lj.lengths_to_mask(jnp.array([[1], [2]]), 5).shape == (5, 2, 1)
    np.testing.assert_array_equal(lj.lengths_to_mask(2, 3), [1, 1, 0])


def test_resets_from_done_shift_by_one_step():
    done = jnp.array([0, 1, 0, 1], bool)
    np.testing.assert_array_equal(lj.resets_from_done(done), [0, 0, 1, 0])
    np.testing.assert_array_equal(lj.resets_from_done(done, jnp.array(True)), [1, 0, 1, 0])
    rows = lj.resets_from_done(np.repeat(np.asarray(done)[:, None], 2, 1), jnp.array([True, False]))
    np.testing.assert_array_equal(np.asarray(rows)[0], [1, 0])


def test_resets_from_segment_ids_mark_changes():
    ids = jnp.array([5, 5, 7, 7, 7, 5])
    np.testing.assert_array_equal(lj.resets_from_segment_ids(ids), [0, 0, 1, 0, 0, 1])


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_ones(reverse):
    ids = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    xs = np.asarray(XS)[:, 0]
    _, packed = lj.lstm(PARAMS, xs, resets=lj.resets_from_segment_ids(ids), reverse=reverse)
    for segment in range(3):
        _, alone = lj.lstm(PARAMS, xs[ids == segment], reverse=reverse)
        np.testing.assert_allclose(np.asarray(packed)[ids == segment], alone, rtol=1e-5, atol=1e-6)


def act(state, x, reset):
    fresh = lj.zero_state(PARAMS, (B,))
    state = jax.tree.map(lambda new, old: jnp.where(reset[:, None], new, old), fresh, state)
    return lj.lstm_cell(PARAMS, state, x)


def learn(state, xs, resets):
    return lj.lstm(PARAMS, xs, state, resets=resets)


def test_a_roll_out_equals_its_replay():
    done = jax.random.bernoulli(jax.random.key(2), 0.3, (T, B))
    start = jax.tree.map(jnp.ones_like, lj.zero_state(PARAMS, (B,)))
    lj.check_replay(act, learn, start, XS, lj.resets_from_done(done, jnp.array([True, False, False])))


def test_a_replay_one_step_off_is_named():
    done = jnp.zeros((T, B), bool).at[3, 1].set(True)
    resets = lj.resets_from_done(done)
    start = lj.zero_state(PARAMS, (B,))
    with pytest.raises(ValueError, match=r"first at step 3 \(no reset lies there\)"):
        lj.check_replay(act, lambda state, xs, _: learn(state, xs, done), start, XS, resets)
    with pytest.raises(ValueError, match=r"first at step 4 \(a reset lies there\)"):
        lj.check_replay(act, lambda state, xs, _: learn(state, xs, jnp.zeros_like(done)), start, XS, resets)


def test_a_replay_with_another_final_state_is_named():
    def forgetful(state, xs, resets):
        state, ys = learn(state, xs, resets)
        return state._replace(c=state.c + 1), ys

    start = lj.zero_state(PARAMS, (B,))
    with pytest.raises(ValueError, match="final state differs"):
        lj.check_replay(act, forgetful, start, XS, jnp.zeros((T, B), bool))


def test_a_step_is_a_scan_body():
    from functools import partial

    state, ys = jax.lax.scan(partial(lj.lstm_cell, PARAMS), lj.zero_state(PARAMS, (B,)), XS)
    want, want_ys = lj.lstm(PARAMS, XS)
    np.testing.assert_allclose(ys, want_ys, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.c, want.c, rtol=1e-5, atol=1e-6)
