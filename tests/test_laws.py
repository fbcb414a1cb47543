"""Laws that hold for every combination of options, values and gradients both."""

from functools import cache

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


@cache
def program(options, remat):
    """``(args, flags, weights) -> (result, gradient)`` of the weighted results: compiled once for the tests here."""

    @jax.jit
    def result_and_gradient(args, flags, weights):
        def loss(args):
            result = call(args, flags, options, remat)
            return weigh(result, weights), result

        return jax.grad(loss, has_aux=True)(args)[::-1]

    return result_and_gradient


def want_gradient(problem, weights, options):
    """The oracle's gradient, as of the arguments (params, xs, initial_state, reset_state)."""
    want = oracle.gradient(problem, *weights)
    reset = (want.h_reset, want.c_reset) if options.resets == "state" else None
    return want.weights, want.x, (want.h0, want.c0), reset


@every_remat
@every_option
def test_values_and_gradients_equal_the_oracle(options, remat):
    for seed in range(4):
        problem, weights = random_problem(seed, options), cotangents(seed)
        ((h, c), ys), gradient = program(options, remat)(arguments(problem, options), flags(problem, options), weights)
        assert_trees_close((h, c, ys), oracle.run(problem), TOL)
        assert_trees_close(gradient, want_gradient(problem, weights, options), TOL)


@every_option
def test_several_steps_in_a_body_of_the_loop_change_nothing(options, monkeypatch):
    """As on GPUs; a chunk of 8 is two bodies of 4, the rest is none."""
    problem, weights = random_problem(2, options), cotangents(2)
    remat = REMATS[GRID.index(options) % len(REMATS)]
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(unroll=4))
    unrolled = program.__wrapped__(options, remat)
    operands = arguments(problem, options), flags(problem, options), weights
    assert "unroll=4" in str(jax.make_jaxpr(unrolled)(*operands))
    ((h, c), ys), gradient = unrolled(*operands)
    assert_trees_close((h, c, ys), oracle.run(problem), TOL)
    assert_trees_close(gradient, want_gradient(problem, weights, options), TOL)


@every_option
def test_vmap_equals_the_oracle(options):
    """Rows mapped one by one: no batch axis inside, and a mapped batch axis outside."""
    problem, weights = random_problem(3, options), cotangents(3)
    args, chosen = arguments(problem, options), flags(problem, options)
    remat = REMATS[GRID.index(options) % len(REMATS)]

    def mapped(args):
        params, xs, initial, reset = args
        axes = {"lengths": 0, "mask": 1, "resets": 1}

        def of_row(xs, initial, reset, flags, weights):
            result = call((params, xs, initial, reset), flags, options, remat)
            return weigh(result, weights), result

        rows = jax.vmap(
            of_row,
            in_axes=(1, 0, None if reset is None else 0, {name: axes[name] for name in chosen}, (0, 0, 1)),
            out_axes=(0, (0, 1)),
        )
        losses, result = rows(xs, initial, reset, chosen, weights)
        return losses.sum(), result

    gradient, ((h, c), ys) = jax.jit(jax.grad(mapped, has_aux=True))(args)
    assert_trees_close((h, c, ys), oracle.run(problem), TOL)
    assert_trees_close(gradient, want_gradient(problem, weights, options), TOL)


@pytest.mark.parametrize("reverse", [False, True])
@every_remat
def test_splitting_a_run_changes_nothing(reverse, remat):
    """Two pieces of 9 steps, in each a chunk and a rest, against the oracle of the whole."""
    options, cut = Options("lengths", "state", reverse), 9
    problem = random_problem(4, options, time=2 * cut)
    if reverse:  # a boundary at the cut belongs to neither piece: whoever cuts there starts the second one afresh
        problem.resets[cut] = False
    params, xs, state, reset = arguments(problem, options)
    pieces = (slice(cut, None), slice(cut)) if reverse else (slice(cut), slice(cut, None))
    ys = np.zeros((2 * cut, B, H))
    for piece in pieces:
        state, ys[piece] = lj.lstm(
            params,
            np.asarray(xs)[piece],
            state,
            mask=problem.taken[piece],
            resets=problem.resets[piece],
            reset_state=reset,
            reverse=reverse,
            remat=remat,
        )
    assert_trees_close((*state, ys), oracle.run(problem), TOL)


@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_do_not_see_what_is_read_later(reverse):
    options = Options("all", "none", reverse)
    args = arguments(random_problem(0, options), options)
    jacobian = jax.jit(jax.jacrev(lambda xs: call((args[0], xs, *args[2:]), {}, options)[1][:, 0].sum(-1)))(args[1])
    influence = np.abs(np.asarray(jacobian)[:, :, 0]).sum(-1)
    is_read = np.triu(np.ones((T, T), bool)) if reverse else np.tril(np.ones((T, T), bool))
    assert (influence[~is_read] == 0).all()
    assert (influence[is_read] > 0).all()


def test_rows_of_a_batch_do_not_see_each_other():
    options = Options("mask", "state", False)
    problem = random_problem(5, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    params, xs, initial, reset = args
    changed = np.array(xs)
    changed[:, 1] = 7.0
    result_and_gradient, weights = program(options, "gates"), cotangents(5)
    got, _ = result_and_gradient((params, changed, initial, reset), chosen, weights)
    want, _ = result_and_gradient(args, chosen, weights)
    other_rows = np.array([0, 2, 3])
    for got_leaf, want_leaf in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(
            np.asarray(got_leaf)[..., other_rows, :], np.asarray(want_leaf)[..., other_rows, :]
        )


@every_option
def test_padding_changes_nothing_bit_by_bit(options):
    problem, weights = random_problem(1, options), cotangents(1)
    args, chosen = arguments(problem, options), flags(problem, options)
    filled = np.where(problem.taken[..., None], args[1], 3.0)
    result_and_gradient = program(options, "gates")
    got, want = (result_and_gradient((args[0], xs, *args[2:]), chosen, weights) for xs in (args[1], filled))
    for got_leaf, want_leaf in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(got_leaf, want_leaf)
        assert np.isfinite(got_leaf).all()


@pytest.mark.parametrize("remat", REMATS)
def test_a_nan_state_does_not_survive_a_reset_nor_leak_from_an_empty_row(remat):
    options = Options("lengths", "zeros", False)
    problem = random_problem(2, options)
    params, xs, initial, _ = arguments(problem, options)
    lengths = jnp.array([0, T, T, 3])
    resets = np.zeros((T, B), bool)
    resets[0, 1] = True
    is_poisoned = np.arange(B)[:, None] < 2
    poisoned = jax.tree.map(lambda leaf: jnp.asarray(np.where(is_poisoned, np.nan, leaf)), initial)

    def loss(params, xs):
        (h, _), ys = lj.lstm(params, xs, poisoned, lengths=lengths, resets=resets, remat=remat)
        return jnp.sum(ys) + jnp.sum(h[1:])

    value, gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, np.nan_to_num(xs))
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
    compiled(jax.tree.map(lambda leaf: np.asarray(leaf) + 1, args))
    assert len(traces) == 1
    before = sequence.run._cache_size()
    call(jax.tree.map(lambda leaf: np.asarray(leaf) * 2, args), {}, PLAIN)
    assert sequence.run._cache_size() == before


@pytest.mark.parametrize("steps", ["lengths", "mask"])
def test_reverse_reads_the_taken_steps_backwards_with_the_same_boundaries(steps):
    """Each row's taken steps in reversed order, a boundary between two of them where one lay: read forward."""
    options, weights = Options(steps, "zeros", True), cotangents(6)
    problem = random_problem(6, options)
    args = arguments(problem, options)
    ((h, c), ys), _ = program(options, "gates")(args, flags(problem, options), weights)
    segments = np.cumsum(problem.resets, axis=0)
    turned, resets = np.full(args[1].shape, np.nan), np.zeros((T, B), bool)
    times = [np.flatnonzero(problem.taken[:, row])[::-1] for row in range(B)]
    for row, row_times in enumerate(times):
        turned[: len(row_times), row] = np.asarray(args[1])[row_times, row]
        resets[: len(row_times), row] = np.diff(segments[row_times, row], prepend=segments[row_times[:1], row]) != 0
    forward = Options("lengths", "zeros", False)
    chosen = {"lengths": jnp.asarray([len(row_times) for row_times in times]), "resets": resets}
    (state, outputs), _ = program(forward, "gates")((args[0], turned, *args[2:]), chosen, weights)
    assert_trees_close((h, c), state, TOL)
    for row, row_times in enumerate(times):
        assert_trees_close(np.asarray(ys)[row_times, row], np.asarray(outputs)[: len(row_times), row], TOL)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_final_state_is_the_last_one_taken(reverse):
    options = Options("lengths", "none", reverse)
    problem = random_problem(1, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    ((h, _), ys), _ = program(options, "gates")(args, chosen, cotangents(1))
    for row, length in enumerate(problem.taken.sum(0)):
        want = problem.h0[row] if length == 0 else np.asarray(ys)[0 if reverse else length - 1, row]
        np.testing.assert_array_equal(np.asarray(h)[row], want)


@every_remat
@pytest.mark.parametrize("reverse", [False, True])
def test_no_steps_give_the_initial_state_and_empty_outputs(remat, reverse):
    args = arguments(random_problem(0, PLAIN), PLAIN)
    params, nothing, initial = args[0], np.asarray(args[1])[:0], args[2]

    @jax.jit
    def gradient_and_result(state):
        def loss(state):
            final, ys = lj.lstm(params, nothing, state, reverse=reverse, remat=remat)
            return jnp.sum(final.h), (final, ys)

        return jax.grad(loss, has_aux=True)(state)

    gradient, (final, ys) = gradient_and_result(initial)
    assert_trees_close(final, initial, 0)
    assert ys.shape == (0, B, H)
    np.testing.assert_array_equal(gradient.h, 1)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2), (1, 2, 2)])
def test_any_number_of_batch_axes(shape):
    options = Options("mask", "state", False)
    problem = random_problem(2, options)
    params, xs, initial, reset = arguments(problem, options)
    rows = int(np.prod(shape, dtype=int))

    def fold(array, leading):
        array = np.asarray(array)
        return array[(slice(None),) * leading + (slice(rows),)].reshape(
            *array.shape[:leading], *shape, *array.shape[leading + 1 :]
        )

    (h, c), ys = lj.lstm(
        params,
        fold(xs, 1),
        jax.tree.map(lambda leaf: fold(leaf, 0), initial),
        mask=fold(problem.taken, 1),
        resets=fold(problem.resets, 1),
        reset_state=jax.tree.map(lambda leaf: fold(leaf, 0), reset),
    )
    want_h, want_c, want_ys = oracle.run(problem)
    assert_trees_close((h, c, ys), (fold(want_h, 0), fold(want_c, 0), fold(want_ys, 1)), TOL)


def test_a_reset_state_broadcasts():
    options = Options("all", "state", False)
    problem = random_problem(0, options)
    params, xs, initial, reset = arguments(problem, options)
    state_of_one_row = jax.tree.map(lambda leaf: np.asarray(leaf)[0], reset)
    same_in_all_rows = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (B, H)), state_of_one_row)
    chosen, weights = flags(problem, options), cotangents(0)
    got, (*_, got_gradient) = program(options, "gates")((params, xs, initial, state_of_one_row), chosen, weights)
    want, (*_, want_gradient) = program(options, "gates")((params, xs, initial, same_in_all_rows), chosen, weights)
    assert_trees_close(got, want, TOL)
    assert_trees_close(got_gradient, jax.tree.map(lambda leaf: np.asarray(leaf).sum(0), want_gradient), TOL)


def test_traced_lengths_are_clamped():
    """To T above and to 0 below; what is known before tracing is refused instead."""
    options = Options("lengths", "none", False)
    problem = random_problem(0, PLAIN)
    problem.taken[:] = np.arange(T)[:, None] < np.array([T, 0, T, 0])
    args = arguments(problem, options)
    ((h, c), ys), _ = program(options, "gates")(args, {"lengths": jnp.array([T + 5, -3, T, 0])}, cotangents(0))
    assert_trees_close((h, c, ys), oracle.run(problem), TOL)


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
    start = np.zeros((T, B), bool)
    start[0] = True
    other = jnp.asarray(rng.normal(size=(B, H)))
    assert_trees_close(lj.unroll(offset, params, xs, other, resets=start), lj.unroll(offset, params, xs), 0)
