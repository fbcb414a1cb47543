"""Every wrong call explains itself: the argument, what it got, what it wants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax.cells import GRU, GRUParams

T, B, D, H = 4, 2, 3, 5
PARAMS = lj.init_params(jax.random.key(0), D, H)
XS = jnp.zeros((T, B, D), jnp.float32)
STATE = lj.zero_state(PARAMS, (B,))
COUNTING = lj.Cell(
    project=lambda params, x: x,
    recur=lambda params, z, count: z,
    update=lambda params, a, count: (count + 1, a),
    zero_state=lambda params, batch_shape: jnp.zeros(batch_shape, jnp.int32),
)
GRU_PARAMS = GRUParams(*(jnp.zeros(shape, jnp.float32) for shape in ((D, 3 * H), (H, 3 * H), (3 * H,), (H,))))
FLAGS = jnp.zeros((T, B), bool)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


WRONG_CALLS = {
    "xs without features": (lambda: lj.lstm(PARAMS, zeros(3)), "xs: got shape (3,), want [T, *batch, D]"),
    "xs of another width": (lambda: lj.lstm(PARAMS, zeros(T, B, 7)), "xs: got 7 features on the last axis"),
    "integer xs": (lambda: lj.lstm(PARAMS, zeros(T, B, D, dtype=jnp.int32)), "xs: got dtype int32, want a floating"),
    "xs of another dtype": (
        lambda: lj.lstm(PARAMS, XS.astype(jnp.bfloat16)),
        "xs: got dtype bfloat16, want one floating",
    ),
    "one parameter of another dtype": (
        lambda: lj.lstm(PARAMS._replace(bias=PARAMS.bias.astype(jnp.float16)), XS),
        "params.bias: got dtype float16",
    ),
    "params of another kind": (lambda: lj.lstm(tuple(PARAMS), XS), "params: got tuple, want LSTMParams"),
    "params and xs swapped": (lambda: lj.lstm(XS, PARAMS), "xs: got LSTMParams, want an array"),
    "bias of another size": (
        lambda: lj.lstm(PARAMS._replace(bias=zeros(H)), XS),
        "params.bias: got shape (5,), want [4H] with H = 5",
    ),
    "recurrent kernel not square": (
        lambda: lj.lstm(PARAMS._replace(recurrent_kernel=zeros(H, 3 * H)), XS),
        "params.recurrent_kernel: got shape (5, 15), want [H, 4H]",
    ),
    "recurrent kernel of one axis": (
        lambda: lj.lstm(PARAMS._replace(recurrent_kernel=zeros(H)), XS),
        "params.recurrent_kernel: got shape (5,), want [H, 4H]",
    ),
    "input kernel transposed": (
        lambda: lj.lstm(PARAMS._replace(input_kernel=PARAMS.input_kernel.T), XS),
        "params.input_kernel: got shape (20, 3), want [D, 4H] with H = 5",
    ),
    "initial state without batch": (
        lambda: lj.lstm(PARAMS, XS, lj.zero_state(PARAMS)),
        "initial_state.h: got shape (5,), want (2, 5)",
    ),
    "initial state as a pair": (lambda: lj.lstm(PARAMS, XS, tuple(STATE)), "initial_state: got tuple, want LSTMState"),
    "initial state in half precision": (
        lambda: lj.lstm(PARAMS, XS, STATE._replace(c=STATE.c.astype(jnp.float16))),
        "initial_state.c: got dtype float16, want float32",
    ),
    "lengths and mask": (
        lambda: lj.lstm(PARAMS, XS, lengths=jnp.array([1, 2]), mask=FLAGS),
        "mask: got both lengths and mask, want one",
    ),
    "lengths too long": (
        lambda: lj.lstm(PARAMS, XS, lengths=jnp.array([1, 5])),
        "lengths: got values from 1 to 5, want 0 to T = 4",
    ),
    "lengths negative": (lambda: lj.lstm(PARAMS, XS, lengths=[-1, 2]), "lengths: got values from -1 to 2"),
    "known lengths too long under jit": (
        lambda: jax.jit(lambda xs: lj.lstm(PARAMS, xs, lengths=np.array([1, 5])))(XS),
        "lengths: got values from 1 to 5",
    ),
    "lengths of another shape": (
        lambda: lj.lstm(PARAMS, XS, lengths=jnp.array([1])),
        "lengths: got shape (1,), want (2,)",
    ),
    "lengths not integers": (lambda: lj.lstm(PARAMS, XS, lengths=jnp.array([1.0, 2.0])), "lengths: got dtype float64"),
    "mask of integers": (
        lambda: lj.lstm(PARAMS, XS, mask=jnp.ones((T, B), jnp.int32)),
        "mask: got dtype int32, want bool",
    ),
    "mask batch first": (lambda: lj.lstm(PARAMS, XS, mask=FLAGS.T), "mask: got shape (2, 4), want (4, 2)"),
    "resets of another shape": (lambda: lj.lstm(PARAMS, XS, resets=FLAGS[:2]), "resets: got shape (2, 2), want (4, 2)"),
    "resets not bool": (lambda: lj.lstm(PARAMS, XS, resets=XS[..., 0]), "resets: got dtype float32, want bool"),
    "reset_state without resets": (
        lambda: lj.lstm(PARAMS, XS, reset_state=STATE),
        "reset_state: got one without resets",
    ),
    "reset_state too large": (
        lambda: lj.lstm(PARAMS, XS, resets=FLAGS, reset_state=lj.zero_state(PARAMS, (3, B))),
        "reset_state.h: got shape (3, 2, 5), want one that broadcasts to (2, 5)",
    ),
    "unknown remat": (lambda: lj.lstm(PARAMS, XS, remat="everything"), "remat: got 'everything', want one of"),
    "remat zero": (lambda: lj.lstm(PARAMS, XS, remat=0), "remat: got 0, want"),
    "remat true": (lambda: lj.lstm(PARAMS, XS, remat=True), "remat: got True, want"),
    "unknown implementation": (
        lambda: lj.lstm(PARAMS, XS, implementation="magic"),
        "implementation: got 'magic', want one of 'scan'",
    ),
    "step of another width": (lambda: lj.lstm_cell(PARAMS, STATE, zeros(B, 7)), "x: got 7 features"),
    "step without features": (
        lambda: lj.lstm_cell(PARAMS, STATE, jnp.float32(1)),
        "x: got (), want an array [*batch, D]",
    ),
    "step with a batchless state": (
        lambda: lj.lstm_cell(PARAMS, lj.zero_state(PARAMS), XS[0]),
        "state.h: got shape (5,)",
    ),
    "gru of another width": (
        lambda: lj.unroll(GRU, GRUParams(zeros(7, 15), zeros(5, 15), zeros(15), zeros(5)), XS),
        "xs: got 3 features on the last axis (shape (4, 2, 3)), want the 7 of params.input_kernel",
    ),
    "a missing bias": (
        lambda: lj.lstm(PARAMS._replace(bias=None), XS),
        "params.bias: got NoneType, want an array; of zeros",
    ),
    "lengths for batch-first xs": (
        lambda: lj.lstm(PARAMS, XS.swapaxes(0, 1), lengths=jnp.array([1, 2])),
        "lengths: got shape (2,), want (4,), the batch axes of xs [T, *batch, D]",
    ),
    "reset_state as an array": (
        lambda: lj.lstm(PARAMS, XS, resets=FLAGS, reset_state=zeros(H)),
        "reset_state: got an array, want LSTMState",
    ),
    "step with state and input swapped": (
        lambda: lj.lstm_cell(PARAMS, XS[0], STATE),
        "x: got LSTMState, want an array",
    ),
    "cell and params swapped": (lambda: lj.unroll(PARAMS, lj.cells.LSTM, XS), "cell: got LSTMParams, want Cell"),
    "a cell that returns one thing": (
        lambda: lj.unroll(GRU._replace(update=lambda params, a, h: h, check=lambda *_: None), GRU_PARAMS, XS),
        "cell.update: got an array, want the pair (state, y)",
    ),
    "a cell whose state grows": (
        lambda: lj.unroll(GRU._replace(update=lambda params, a, h: (jnp.concatenate([h, h], -1), h)), GRU_PARAMS, XS),
        "cell.update's state: got shape (2, 10), want (2, 5)",
    ),
    "a cell that counts": (
        lambda: lj.unroll(COUNTING, {}, XS),
        "cell.zero_state: got a part of dtype int32, want floating parts only",
    ),
    "gru with the parameters of an lstm": (
        lambda: lj.unroll(GRU, PARAMS, XS),
        "params: got LSTMParams, want GRUParams",
    ),
    "reverse by name": (lambda: lj.lstm(PARAMS, XS, reverse="no"), "reverse: got str, want bool"),
    "step on a list": (lambda: lj.lstm_cell(PARAMS, STATE, [1.0, 2.0]), "x: got list, want an array"),
    "zero_state of another cell": (lambda: lj.zero_state(GRU_PARAMS), "params: got GRUParams, want those of an LSTM"),
    "zero_state of a number": (lambda: lj.zero_state(PARAMS, 3), "batch_shape: got int, want tuple"),
    "init_params without a key": (lambda: lj.init_params(0, D, H), "key: got 0, want a random key"),
    "init_params with the key last": (lambda: lj.init_params(D, H, jax.random.key(0)), "key: got 3, want a random key"),
    "lengths_to_mask turned around": (lambda: lj.lengths_to_mask(4, jnp.array([1, 2])), "steps: got Array"),
    "done of floats": (lambda: lj.resets_from_done(zeros(T, B)), "done: got dtype float32, want bool"),
    "first without batch": (
        lambda: lj.resets_from_done(FLAGS, jnp.array(True)),
        "first: got shape (), want (2,)",
    ),
    "unknown scheme": (
        lambda: lj.init_params(jax.random.key(0), D, H, scheme="magic"),
        "scheme: got 'magic', want one of",
    ),
    "no hidden units": (
        lambda: lj.init_params(jax.random.key(0), D, 0),
        "hidden_size: got 0, want an integer of at least 1",
    ),
    "integer parameters": (lambda: lj.init_params(jax.random.key(0), D, H, dtype=jnp.int32), "dtype: got int32"),
    "chrono without max_time": (lambda: lj.init_params(jax.random.key(0), D, H, scheme="chrono"), "max_time: got None"),
    "max_time without chrono": (
        lambda: lj.init_params(jax.random.key(0), D, H, max_time=9),
        "max_time: got 9 with scheme",
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_wrong_call_names_the_argument(name):
    call, message = WRONG_CALLS[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        call()
    assert str(caught.value).startswith(message)


def test_a_reset_state_may_broadcast_and_length_limits_are_allowed():
    lj.lstm(PARAMS, XS, resets=FLAGS, reset_state=lj.zero_state(PARAMS), lengths=jnp.array([0, T]))


def counting_cell():
    """A cell whose zero state has jax's default dtype."""
    return lj.Cell(
        project=lambda params, x: x @ params["W"],
        recur=lambda params, z, h: z,
        update=lambda params, a, h: (h + a.astype(h.dtype), a),
        zero_state=lambda params, batch_shape: jnp.zeros((*batch_shape, H)),
    )


def test_what_is_remembered_of_a_zero_state_follows_the_width_of_floats():
    """The same call with the same arrays, in 32 bits and then in 64."""
    cell, params, xs = counting_cell(), {"W": np.ones((D, H), np.float32)}, np.ones((T, D), np.float32)
    for wide, dtype in ((False, jnp.float32), (True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(wide):
            state, _ = lj.unroll(cell, params, xs, jnp.zeros(H))
            assert state.dtype == dtype


def test_parameters_may_hold_a_random_key():
    params = {"W": zeros(D, H), "key": jax.random.key(0)}
    assert lj.unroll(counting_cell(), params, XS)[1].shape == (T, B, H)
