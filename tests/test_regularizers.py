"""Masks: the same key gives the same numbers, a split run those of the whole, and the expectation is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import regularizers
from lstm_jax.cells import CELLS, GATE_SPECS, GateSpec, lstm_variant

T, B, D, H = 13, 3, 4, 6
KEY = jax.random.key(7)
XS = jax.random.normal(jax.random.key(1), (T, B, D))
CELL_NAMES = [name for name, cell in CELLS.items() if cell.num_spatial_dims == 0]
every_cell = pytest.mark.parametrize("name", CELL_NAMES)


def problem(name="lstm"):
    options = {"projection_size": 3} if name == "projected" else {}
    params = CELLS[name].init(jax.random.key(2), D, H, dtype=jnp.float64, **options)
    cell = CELLS[name]
    return cell, params, cell.zero_state(params, (B,))


def rates_of(state, rate):
    return jax.tree.map(lambda leaf: rate, state)


def assert_same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


@every_cell
def test_zoneout_keeps_what_its_mask_says(name):
    """One step, by hand: each unit of each part of the state is the old one or the new one."""
    cell, params, zeros = problem(name)
    old = jax.tree.map(lambda leaf: leaf * 0 + 0.3, zeros)
    wrapped, inputs = regularizers.zoneout(KEY, cell, XS[:1], rates_of(zeros, 0.5), zeros)
    got, ys = lj.unroll(wrapped, params, inputs, old)
    new, _ = lj.unroll(cell, params, XS[:1], old)
    masks = jax.tree.map(lambda mask: mask[0], inputs.per_step)
    assert {0.0, 1.0} == set(np.unique(jnp.concatenate([mask.ravel() for mask in jax.tree.leaves(masks)])))
    want = jax.tree.map(lambda mask, old, new: jnp.where(mask == 1, old, new), masks, old, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), got, want)
    np.testing.assert_array_equal(ys[0], regularizers.get_h(got))


@every_cell
def test_zoneout_of_a_split_run_and_its_gradient(name):
    cell, params, zeros = problem(name)
    rates = rates_of(zeros, 0.3)

    def run(params, xs, state, start):
        wrapped, inputs = regularizers.zoneout(KEY, cell, xs, rates, zeros, start=start)
        return lj.unroll(wrapped, params, inputs, state, remat="states")

    whole, ys = run(params, XS, zeros, 0)
    middle, first = run(params, XS[:5], zeros, 0)
    final, second = run(params, XS[5:], middle, 5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13),
        (whole, ys),
        (final, jnp.concatenate([first, second])),
    )
    loss = lambda params: jnp.sum(run(params, XS, zeros, 0)[1] ** 2)  # noqa: E731
    way = jax.tree.map(jnp.cos, params)
    if name == "batch_norm":  # its statistics have no derivative
        fixed = [part for part in way._fields if part.endswith(("mean", "variance"))]
        way = way._replace(**{part: 0 * getattr(way, part) for part in fixed})
    slope = jax.jvp(loss, (params,), (way,))[1]
    step = 1e-6
    moved = [loss(jax.tree.map(lambda leaf, w, s=sign: leaf + s * step * w, params, way)) for sign in (1, -1)]
    np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * step), rtol=1e-6)
    gradient = jax.grad(loss)(params)
    dotted = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True))
    np.testing.assert_allclose(dotted, slope, rtol=1e-10)


def test_zoneout_at_evaluation_is_the_expectation_of_a_step():
    cell, params, zeros = problem()
    old = jax.tree.map(lambda leaf: leaf + 0.3, zeros)
    rates = lj.LSTMState(h=0.2, c=0.6)
    wrapped, inputs = regularizers.zoneout(None, cell, XS[:1], rates, zeros)
    got, _ = lj.unroll(wrapped, params, inputs, old)
    new, _ = lj.unroll(cell, params, XS[:1], old)
    want = jax.tree.map(lambda rate, old, new: rate * old + (1 - rate) * new, rates, old, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), got, want)


@every_cell
def test_recurrent_dropout_masks_what_the_recurrent_product_sees(name):
    """A mask of ones is the plain cell; with all of h dropped no output depends on the initial h."""
    cell, params, zeros = problem(name)
    start = jax.tree.map(lambda leaf: leaf + 0.3, zeros)
    wrapped, masked = regularizers.recurrent_dropout(KEY, cell, params, 0.5, zeros)
    assert {0.0, 2.0} == set(np.unique(masked.mask))
    ones = masked._replace(mask=jnp.ones_like(masked.mask))
    got, want = lj.unroll(wrapped, ones, XS, start), lj.unroll(cell, params, XS, start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), got, want)
    if hasattr(start, "h"):
        none = masked._replace(mask=jnp.zeros_like(masked.mask))
        other = start._replace(h=start.h + 1)
        assert_same(lj.unroll(wrapped, none, XS, start)[1], lj.unroll(wrapped, none, XS, other)[1])
    gradient = jax.grad(lambda params: jnp.sum(lj.unroll(wrapped, masked._replace(params=params), XS, start)[1] ** 2))(
        params
    )
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_locked_dropout_is_one_mask_for_all_steps():
    dropped = regularizers.locked_dropout(KEY, jnp.ones((T, B, D)), 0.4)
    assert (dropped == dropped[:1]).all()
    assert_same(dropped, regularizers.locked_dropout(KEY, jnp.ones((T, B, D)), 0.4))
    rows = jax.vmap(lambda key, xs: regularizers.locked_dropout(key, xs, 0.4), (0, 1), 1)(
        jax.random.split(KEY, B), jnp.ones((T, B, D))
    )
    assert len(np.unique(rows[0], axis=0)) > 1, "rows under vmap have masks of their own"


def test_dropout_of_a_split_run():
    whole = regularizers.dropout(KEY, XS, 0.4)
    parts = [regularizers.dropout(KEY, XS[:5], 0.4), regularizers.dropout(KEY, XS[5:], 0.4, start=5)]
    assert_same(whole, jnp.concatenate(parts))
    assert len(np.unique(whole == 0, axis=0)) > T // 2


def test_embedding_dropout_drops_whole_rows():
    dropped = regularizers.embedding_dropout(KEY, jnp.ones((50, 3)), 0.5)
    assert (dropped == dropped[:, :1]).all()
    assert {0.0, 2.0} == set(np.unique(dropped))


@pytest.mark.parametrize("whole_rows", [False, True])
def test_drop_connect(whole_rows):
    params = lj.init_params(KEY, D, 32)
    dropped = regularizers.drop_connect(KEY, params, 0.5, whole_rows=whole_rows)
    assert_same(dropped._replace(recurrent_kernel=0), params._replace(recurrent_kernel=0))
    ratio = np.asarray(dropped.recurrent_kernel / params.recurrent_kernel)
    assert {0.0, 2.0} == set(np.unique(ratio))
    assert (ratio == ratio[:, :1]).all() == whole_rows
    assert_same(dropped, regularizers.drop_connect(KEY, params, 0.5, whole_rows=whole_rows))


def interval(count, rate):
    """Five standard errors of the mean of ``count`` masks scaled to expectation 1."""
    return 5 * (rate / (1 - rate) / count) ** 0.5


MEANS = {
    "locked": lambda key, rate: regularizers.locked_dropout(key, jnp.ones((1, 50, 40)), rate),
    "dropout": lambda key, rate: regularizers.dropout(key, jnp.ones((20, 10, 10)), rate),
    "embedding": lambda key, rate: regularizers.embedding_dropout(key, jnp.ones((2000, 1)), rate),
    "connect": lambda key, rate: (
        regularizers.drop_connect(
            key, lj.LSTMParams(jnp.ones(1), jnp.ones((50, 40)), jnp.ones(1)), rate
        ).recurrent_kernel
    ),
    "zoneout": lambda key, rate: (1 - zoneout_mask(key, rate)) / (1 - rate),
}


def zoneout_mask(key, rate):
    state = lj.LSTMState(jnp.zeros((10, 10)), jnp.zeros((10, 10)))
    return regularizers.zoneout(key, CELLS["lstm"], jnp.ones((20, 10, 1)), rates_of(state, rate), state)[1].per_step.c


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", MEANS)
def test_the_expectation_over_masks_is_one(name, rate):
    """Over 25 keys of 2000 masks each: false alarms once in a million runs."""
    masks = jnp.stack([MEANS[name](jax.random.key(seed), rate) for seed in range(25)])
    np.testing.assert_allclose(masks.mean(), 1, atol=interval(masks.size, rate))


@pytest.mark.parametrize("name", ["standard", *GATE_SPECS])
def test_candidate_dropout_drops_candidates_and_never_the_memory(name):
    form = GATE_SPECS.get(name, GateSpec())
    params = CELLS[name if name in GATE_SPECS else "lstm"].init(KEY, D, H, dtype=jnp.float64)
    state = lstm_variant(form).zero_state(params, (B,))
    cell, inputs = regularizers.candidate_dropout(KEY, form, XS[:1], 0.5, state)
    got, _ = lj.unroll(cell, params, inputs, state)
    plain, _ = lj.unroll(lstm_variant(form), params, XS[:1], state)
    want = inputs.per_step[0] * plain.c
    want = want if form.clip is None else jnp.clip(want, -form.clip, form.clip)
    np.testing.assert_allclose(got.c, want, atol=1e-15)
    loss = lambda params: jnp.sum(lj.unroll(cell, params, inputs, state)[1] ** 2)  # noqa: E731
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(params)))


def test_without_a_key_nothing_is_dropped():
    cell, params, state = problem()
    assert regularizers.dropout(None, XS, 0.5) is XS
    assert regularizers.locked_dropout(None, XS, 0.5) is XS
    table = XS[0]
    assert regularizers.embedding_dropout(None, table, 0.5) is table
    assert regularizers.drop_connect(None, params, 0.5) is params
    assert regularizers.recurrent_dropout(None, cell, params, 0.5, state) == (cell, params)
    plain_cell, inputs = regularizers.candidate_dropout(None, GateSpec(), XS, 0.5, state)
    assert plain_cell is lstm_variant(GateSpec())
    assert inputs is XS
    with pytest.raises(ValueError, match=r"rate: got 1\.5"):
        regularizers.locked_dropout(None, XS, 1.5)


def test_a_rate_of_zero_compiles_to_nothing():
    cell, params, state = problem()
    assert regularizers.locked_dropout(KEY, XS, 0.0) is XS
    assert regularizers.dropout(KEY, XS, 0) is XS
    assert regularizers.drop_connect(KEY, params, 0.0) is params
    assert regularizers.recurrent_dropout(KEY, cell, params, 0.0, state) == (cell, params)
    assert regularizers.zoneout(KEY, cell, XS, lj.LSTMState(0.0, 0.0), state) == (cell, XS)
    assert regularizers.candidate_dropout(KEY, GateSpec(), XS, 0.0, state)[0] is lstm_variant(GateSpec())


def test_a_traced_rate_works_for_a_population():
    cell, params, state = problem()

    @jax.jit
    @jax.vmap
    def loss(rate):
        wrapped, inputs = regularizers.zoneout(KEY, cell, XS, lj.LSTMState(h=rate, c=rate), state)
        xs = regularizers.locked_dropout(KEY, inputs.x, rate)
        dropped = regularizers.drop_connect(KEY, params, rate)
        return jnp.sum(lj.unroll(wrapped, dropped, inputs._replace(x=xs))[1] ** 2)

    losses = loss(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(losses[0], jnp.sum(lj.unroll(cell, params, XS)[1] ** 2), rtol=1e-12)
    assert abs(losses[1] - losses[0]) > 1e-3


def test_regularizers_with_every_option_equal_a_split_by_rows():
    """Lengths, resets and reversal around a wrapped cell: each row alone gives its part of the batch."""
    cell, params, state = problem("gru")
    lengths, resets = jnp.array([13, 0, 7]), jax.random.bernoulli(KEY, 0.2, (T, B))
    wrapped, inputs = regularizers.zoneout(KEY, cell, XS, 0.4, state)

    def run(inputs, lengths, resets):
        return lj.unroll(wrapped, params, inputs, lengths=lengths, resets=resets, reverse=True, remat=4)

    rows = jax.vmap(run, (1, 0, 1), (0, 1))(inputs, lengths, resets)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), rows, run(inputs, lengths, resets))


def test_penalties():
    params = {"lstm": lj.LSTMParams(jnp.full((2, 4), -2.0), jnp.ones((1, 4)), jnp.ones(4)), "head": jnp.ones(3)}
    assert regularizers.weight_penalty(params, l1=0.5) == 0.5 * (16 + 4 + 4 + 3)
    assert regularizers.weight_penalty(params, l2=0.25, pattern="kernel") == 0.25 * (32 + 4)
    assert regularizers.weight_penalty(params, l1=1.0, l2=1.0, pattern=r"^lstm\.bias") == 8
    ys = jnp.array([[1.0], [3.0], [2.0]])
    np.testing.assert_allclose(regularizers.activation_penalty(ys), 14 / 3, rtol=1e-15)
    np.testing.assert_allclose(regularizers.temporal_activation_penalty(ys), (4 + 1) / 2, rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cell, params, state: regularizers.locked_dropout(KEY, XS, 1.0), "rate: got 1.0, want a rate from 0"),
        (lambda cell, params, state: regularizers.zoneout(KEY, cell, XS, 0.5, state), "rates: got 0.5, want one rate"),
        (
            lambda cell, params, state: regularizers.drop_connect(KEY, params, 0.5, names=("kernel",)),
            "names: got 'kernel', want some of 'input_kernel'",
        ),
        (
            lambda cell, params, state: regularizers.weight_penalty(params, l1=1.0, pattern="w_hh"),
            "pattern: got 'w_hh', which no parameter's path matches",
        ),
        (
            lambda cell, params, state: lj.unroll(cell, params, lj.Inputs(XS, jnp.ones((T, 2)))),
            r"xs.per_step: got shape \(13, 2\), want \(13, 3\) first",
        ),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem())


def test_a_known_rate_is_checked_inside_jit_too():
    rate = jnp.float32(0.5)
    dropped = jax.jit(lambda xs: regularizers.locked_dropout(KEY, xs, rate))(XS)
    assert dropped.shape == XS.shape
    wrong = jnp.float32(1.5)
    with pytest.raises(ValueError, match=r"rate: got 1\.5"):
        jax.jit(lambda xs: regularizers.locked_dropout(KEY, xs, wrong))(XS)
