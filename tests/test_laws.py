"""Laws that hold for every combination of options, values and gradients both."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import (
    GRID,
    REMATS,
    B,
    D,
    H,
    Options,
    T,
    arguments,
    assert_trees_close,
    call,
    cotangents,
    flags,
    random_problem,
    tolerance,
    weigh,
)

import lstm_jax as lj
from lstm_jax._core import sequence, tuning

pytestmark = pytest.mark.usefixtures("short_chunks")

PLAIN = Options("all", "none", False)
TOL = tolerance(jnp.float64)


def names(options):
    return f"{options.steps}-{options.resets}-{'reverse' if options.reverse else 'forward'}"


every_option = pytest.mark.parametrize("options", GRID, ids=names)
every_remat = pytest.mark.parametrize("remat", REMATS)


@every_remat
@every_option
def test_values_and_gradients_equal_the_oracle(options, remat):
    @jax.jit
    def value_and_grad(args, flags, weights):
        def loss(args):
            result = call(args, flags, options, remat)
            return weigh(result, weights), result

        return jax.value_and_grad(loss, has_aux=True)(args)

    for seed in range(4):
        problem = random_problem(seed, options)
        weights = cotangents(seed)
        (_, ((h, c), ys)), (dparams, dxs, dinitial, dreset) = value_and_grad(
            arguments(problem, options), flags(problem, options), weights
        )
        assert_trees_close((h, c, ys), oracle.run(problem), TOL)
        want = oracle.gradient(problem, *weights)
        assert_trees_close(dparams, want.weights, TOL)
        assert_trees_close(dxs, want.x, TOL)
        assert_trees_close(dinitial, (want.h0, want.c0), TOL)
        if dreset is not None:
            assert_trees_close(dreset, (want.h_reset, want.c_reset), TOL)


@every_option
def test_several_steps_in_a_body_of_the_loop_change_nothing(options, monkeypatch):
    """As on GPUs; a chunk of 8 is two bodies of 4, the rest is none."""
    problem = random_problem(2, options)
    args, chosen, weights = arguments(problem, options), flags(problem, options), cotangents(2)
    remat = REMATS[GRID.index(options) % len(REMATS)]

    @jax.jit
    def loss(args):
        result = call(args, chosen, options, remat)
        return weigh(result, weights), result

    want = jax.value_and_grad(loss, has_aux=True)(args)
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(unroll=4))
    jax.clear_caches()
    assert_trees_close(jax.value_and_grad(loss, has_aux=True)(args), want, TOL)
    monkeypatch.undo()
    jax.clear_caches()


@every_option
def test_vmap_equals_the_batched_call(options):
    """Rows mapped one by one: no batch axis inside, and a mapped batch axis outside two explicit ones."""
    problem = random_problem(3, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    weights = cotangents(3)

    remat = REMATS[GRID.index(options) % len(REMATS)]

    def loss(args, flags, weights):
        return weigh(call(args, flags, options, remat), weights)

    def mapped(args, flags, weights):
        params, xs, initial, reset = args
        axes = {"lengths": 0, "mask": 1, "resets": 1}
        rows = jax.vmap(
            lambda xs, initial, reset, flags, weights: loss((params, xs, initial, reset), flags, weights),
            in_axes=(1, 0, None if reset is None else 0, {name: axes[name] for name in flags}, (0, 0, 1)),
        )
        return rows(xs, initial, reset, flags, weights).sum()

    want = jax.jit(jax.value_and_grad(loss))(args, chosen, weights)
    got = jax.jit(jax.value_and_grad(mapped))(args, chosen, weights)
    assert_trees_close(got, want, TOL)


@pytest.mark.parametrize("reverse", [False, True])
@every_remat
def test_splitting_a_run_changes_nothing(reverse, remat):
    options = Options("lengths", "state", reverse)
    problem = random_problem(4, options)
    params, xs, initial, reset = arguments(problem, options)
    mask, resets = jnp.asarray(problem.taken), jnp.asarray(problem.resets)

    def piece(xs, state, mask, resets):
        return lj.lstm(params, xs, state, mask=mask, resets=resets, reset_state=reset, reverse=reverse, remat=remat)

    whole = piece(xs, initial, mask, resets)
    cut = 8
    first, second = (slice(cut, None), slice(cut)) if reverse else (slice(cut), slice(cut, None))
    if reverse:  # a boundary at the cut belongs to neither piece: whoever cuts there starts the second one afresh
        resets = resets.at[cut].set(False)
        whole = piece(xs, initial, mask, resets)
    state, ys_first = piece(xs[first], initial, mask[first], resets[first])
    state, ys_second = piece(xs[second], state, mask[second], resets[second])
    parts = (ys_second, ys_first) if reverse else (ys_first, ys_second)
    assert_trees_close((state, jnp.concatenate(parts)), whole, TOL)


@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_do_not_see_what_is_read_later(reverse):
    options = Options("all", "none", reverse)
    args = arguments(random_problem(0, options), options)
    jacobian = jax.jacrev(lambda xs: call((args[0], xs, *args[2:]), {}, options)[1][:, 0].sum(-1))(args[1])
    influence = np.abs(np.asarray(jacobian)[:, :, 0]).sum(-1)
    seen = np.triu(np.ones((T, T), bool)) if reverse else np.tril(np.ones((T, T), bool))
    assert (influence[~seen] == 0).all()
    assert (influence[seen] > 0).all()


def test_rows_of_a_batch_do_not_see_each_other():
    options = Options("mask", "state", False)
    problem = random_problem(5, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    params, xs, initial, reset = args
    other = call((params, xs.at[:, 1].set(7.0), initial, reset), chosen, options)
    same = np.array([0, 2, 3])
    for got, want in zip(jax.tree.leaves(other), jax.tree.leaves(call(args, chosen, options)), strict=True):
        np.testing.assert_array_equal(got[..., same, :], want[..., same, :])


@every_option
def test_padding_changes_nothing_bit_by_bit(options):
    problem = random_problem(1, options)
    args, chosen, weights = arguments(problem, options), flags(problem, options), cotangents(1)

    @jax.jit
    def everything(args, flags):
        return jax.value_and_grad(lambda args: weigh(call(args, flags, options), weights))(args)

    filled = args[1].at[~problem.taken].set(3.0)
    got, want = everything(args, chosen), everything((args[0], filled, *args[2:]), chosen)
    for got_leaf, want_leaf in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(got_leaf, want_leaf)
        assert np.isfinite(got_leaf).all()


@pytest.mark.parametrize("remat", REMATS)
def test_a_nan_state_does_not_survive_a_reset_nor_leak_from_an_empty_row(remat):
    options = Options("lengths", "zeros", False)
    problem = random_problem(2, options)
    params, xs, initial, _ = arguments(problem, options)
    lengths = jnp.array([0, T, T, 3])
    resets = jnp.zeros((T, B), bool).at[0, 1].set(True)
    poisoned = jax.tree.map(lambda leaf: leaf.at[:2].set(jnp.nan), initial)

    def loss(params, xs):
        (h, _), ys = lj.lstm(params, xs, poisoned, lengths=lengths, resets=resets, remat=remat)
        return jnp.sum(ys) + jnp.sum(h[1:])

    value, gradient = jax.value_and_grad(loss, (0, 1))(params, jnp.nan_to_num(xs))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_jit_equals_eager_with_one_trace_a_shape():
    args = arguments(random_problem(0, PLAIN), PLAIN)
    traces = []

    @jax.jit
    def compiled(args):
        traces.append(1)
        return call(args, {}, PLAIN)

    assert_trees_close(compiled(args), call(args, {}, PLAIN), TOL)
    compiled(jax.tree.map(lambda leaf: leaf + 1, args))
    assert len(traces) == 1
    before = sequence.run._cache_size()
    call(jax.tree.map(lambda leaf: leaf * 2, args), {}, PLAIN)
    assert sequence.run._cache_size() == before


@pytest.mark.parametrize("steps", ["lengths", "mask"])
def test_reverse_reads_the_taken_steps_backwards_with_the_same_boundaries(steps):
    options = Options(steps, "zeros", True)
    problem = random_problem(6, options)
    params, xs, initial, _ = arguments(problem, options)
    (h, c), ys = call((params, xs, initial, None), flags(problem, options), options)
    segments = np.cumsum(problem.resets, axis=0)
    for row in range(B):
        times = np.flatnonzero(problem.taken[:, row])[::-1]
        one = jnp.asarray(xs[times, row])
        changed = np.diff(segments[times, row], prepend=segments[times[:1], row]) != 0
        start = jax.tree.map(lambda leaf, row=row: leaf[row], initial)
        state, outputs = lj.lstm(params, one, start, resets=jnp.asarray(changed))
        np.testing.assert_allclose(ys[times, row], outputs, rtol=TOL, atol=TOL)
        assert_trees_close((h[row], c[row]), state, TOL)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_final_state_is_the_last_one_taken(reverse):
    options = Options("lengths", "none", reverse)
    problem = random_problem(1, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    (h, _), ys = call(args, chosen, options)
    for row, length in enumerate(problem.taken.sum(0)):
        want = problem.h0[row] if length == 0 else np.asarray(ys)[0 if reverse else length - 1, row]
        np.testing.assert_array_equal(h[row], want)


@every_remat
@pytest.mark.parametrize("reverse", [False, True])
def test_no_steps_give_the_initial_state_and_empty_outputs(remat, reverse):
    args = arguments(random_problem(0, PLAIN), PLAIN)
    state, ys = lj.lstm(args[0], args[1][:0], args[2], reverse=reverse, remat=remat)
    assert_trees_close(state, args[2], 0)
    assert ys.shape == (0, B, H)
    gradient = jax.grad(lambda state: jnp.sum(lj.lstm(args[0], args[1][:0], state)[0].h))(args[2])
    np.testing.assert_array_equal(gradient.h, 1)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2), (1, 2, 2)])
def test_any_number_of_batch_axes(shape):
    options = Options("mask", "state", False)
    problem = random_problem(2, options)
    params, xs, initial, reset = arguments(problem, options)
    rows = int(np.prod(shape, dtype=int))

    def fold(array, leading):
        return array[(slice(None),) * leading + (slice(rows),)].reshape(
            *array.shape[:leading], *shape, *array.shape[leading + 1 :]
        )

    (h, c), ys = lj.lstm(
        params,
        fold(xs, 1),
        jax.tree.map(lambda leaf: fold(leaf, 0), initial),
        mask=fold(jnp.asarray(problem.taken), 1),
        resets=fold(jnp.asarray(problem.resets), 1),
        reset_state=jax.tree.map(lambda leaf: fold(leaf, 0), reset),
    )
    want_h, want_c, want_ys = oracle.run(problem)
    assert_trees_close((h, c, ys), (fold(want_h, 0), fold(want_c, 0), fold(want_ys, 1)), TOL)


def test_a_reset_state_broadcasts():
    options = Options("all", "state", False)
    problem = random_problem(0, options)
    params, xs, initial, reset = arguments(problem, options)
    one = jax.tree.map(lambda leaf: leaf[0], reset)
    every = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0][None], leaf.shape), reset)
    chosen = flags(problem, options)

    def loss(reset):
        return weigh(call((params, xs, initial, reset), chosen, options), cotangents(0))

    got, want = jax.value_and_grad(loss)(one), jax.value_and_grad(loss)(every)
    assert_trees_close(got[0], want[0], TOL)
    assert_trees_close(got[1], jax.tree.map(lambda leaf: leaf.sum(0), want[1]), TOL)


def test_traced_lengths_are_clamped():
    args = arguments(random_problem(0, PLAIN), PLAIN)
    run = jax.jit(lambda lengths: lj.lstm(args[0], args[1], args[2], lengths=lengths))
    assert_trees_close(run(jnp.array([T + 5, -3, T, 0])), run(jnp.array([T, 0, T, 0])), 0)


def test_shapes_of_the_results():
    params = lj.init_params(jax.random.key(0), D, H)
    (h, c), ys = lj.lstm(params, jnp.zeros((T, B, D), jnp.float32))
    assert (h.shape, c.shape, ys.shape) == ((B, H), (B, H), (T, B, H))


def test_a_reset_starts_from_the_cells_own_zero_state():
    offset = lj.cells.GRU._replace(zero_state=lambda params, batch_shape: jnp.full((*batch_shape, H), 0.5))
    rng = np.random.default_rng(0)
    shapes = ((D, 3 * H), (H, 3 * H), (3 * H,), (H,))
    params = lj.cells.GRUParams(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))
    xs = jnp.asarray(rng.normal(size=(T, B, D)))
    start = jnp.zeros((T, B), bool).at[0].set(True)
    other = jnp.asarray(rng.normal(size=(B, H)))
    assert_trees_close(lj.unroll(offset, params, xs, other, resets=start), lj.unroll(offset, params, xs), 0)
