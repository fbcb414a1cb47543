"""The laws of the core for every cell in the table."""

from functools import cache, partial
from typing import NamedTuple

import cell_oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_trees_close, tolerance
from test_structure import equations

import lstm_jax as lj
from lstm_jax.cells import CELLS

pytestmark = pytest.mark.usefixtures("short_chunks")

T, B, D, H = 19, 3, 4, 6
SPACE = 5
OPTIONS = {"projected": {"projection_size": 3}, "mogrifier": {"num_rounds": 3}, "batch_norm": {"max_steps": 5}}
every_cell = pytest.mark.parametrize("name", CELLS)
WAYS = [("gates", False), ("states", True), (4, False)]
every_way = pytest.mark.parametrize(("remat", "reverse"), WAYS, ids=["gates", "states-reverse", "4"])
DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32]
TOL = tolerance(jnp.float64)


class Problem(NamedTuple):
    """A random problem of a cell: lengths of 0, some and all steps, resets, states."""

    cell: lj.Cell
    params: object
    xs: jax.Array
    initial: object
    reset: object
    lengths: jax.Array
    resets: jax.Array


@cache
def drawn_params(name):
    """Parameters as the cell draws them, float64 in NumPy: drawn once a cell, and cast to other dtypes."""
    params = CELLS[name].init(jax.random.key(3), D, H, dtype=jnp.float64, **OPTIONS.get(name, {}))
    return jax.tree.map(np.asarray, params)


def make_problem(name, dtype=jnp.float64):
    """Parameters moved away from 0 and 1, by NumPy, which compiles nothing."""
    cell, rng = CELLS[name], np.random.default_rng(len(name))
    params = jax.tree.map(
        lambda leaf: jnp.asarray((leaf + 0.2 * rng.normal(size=leaf.shape)).astype(dtype)), drawn_params(name)
    )
    space = (SPACE,) * cell.num_spatial_dims
    zeros = jax.eval_shape(lambda params: cell.zero_state(params, (B, *space)), params)
    states = []
    for _ in ("initial", "reset"):
        state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), zeros)
        if name == "slstm":  # a normalizer is positive
            state = state._replace(n=np.exp(state.n))
        if name == "batch_norm":  # the step is a whole number
            state = state._replace(step=np.round(np.abs(3 * state.step)))
        states.append(jax.tree.map(lambda leaf, zero: jnp.asarray(leaf.astype(zero.dtype)), state, zeros))
    xs = jnp.asarray(rng.normal(size=(T, B, *space, D)).astype(dtype))
    return Problem(cell, params, xs, *states, jnp.array([0, T - 3, T]), jnp.asarray(rng.random((T, B)) < 0.2))


def run(problem, remat=None, reverse=False, **changes):
    p = problem._replace(**changes)
    return lj.unroll(
        p.cell,
        p.params,
        p.xs,
        p.initial,
        lengths=p.lengths,
        resets=p.resets,
        reset_state=p.reset,
        reverse=reverse,
        remat=remat,
    )


def as_numpy(tree):
    return tuple(np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree))


@every_way
@every_cell
def test_values_equal_the_oracle(name, remat, reverse):
    problem = make_problem(name)
    taken = np.arange(T)[:, None] < np.asarray(problem.lengths)
    final, ys = run(problem, remat, reverse)
    named = {field: np.asarray(leaf) for field, leaf in problem.params._asdict().items()}
    states = as_numpy(problem.initial), as_numpy(problem.reset)
    want_final, want_ys = cell_oracles.run(
        name, named, np.asarray(problem.xs), *states, taken, np.asarray(problem.resets), reverse
    )
    if name == "slstm":
        final, want_final = without_stabilizer(final), without_stabilizer(want_final)
    assert_trees_close((final, ys), (want_final, want_ys), TOL)


def without_stabilizer(state):
    """The state in terms that do not depend on the stabilizer m."""
    h, c, n, m = (np.asarray(leaf) for leaf in state)
    return h, c * np.exp(m), n * np.exp(m)


@pytest.mark.parametrize(("remat", "reverse"), WAYS[:2], ids=["gates", "states-reverse"])
@every_cell
def test_derivatives_equal_those_of_a_plain_scan(name, remat, reverse):
    """With respect to parameters, inputs and both states; for one way the gradient's own derivative too."""
    problem = make_problem(name)
    args = (problem.params, problem.xs, problem.initial, problem.reset)
    direction = jax.tree.map(lambda leaf: jnp.asarray(np.cos(leaf)), args)
    weight = np.random.default_rng(5).normal(size=jax.eval_shape(partial(run, problem))[1].shape)

    def total(runner, params, xs, initial, reset):
        state, ys = runner(problem._replace(params=params, xs=xs, initial=initial, reset=reset))
        return jnp.sum(jnp.sin(ys) * weight) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(state))

    def derivatives(runner):
        gradient = jax.grad(partial(total, runner), (0, 1, 2, 3))
        return jax.jvp(gradient, args, direction) if remat == "gates" else gradient(*args)

    derivatives_of_ours = jax.jit(lambda: derivatives(lambda p: run(p, remat, reverse)))()
    assert_trees_close(derivatives_of_ours, jax.jit(lambda: derivatives(lambda p: plain(p, reverse)))(), 10 * TOL)


def plain(problem, reverse):
    """A plain scan selects what the flags say, and plain autodiff gives its derivative."""
    cell, params, taken = problem.cell, problem.params, lj.lengths_to_mask(problem.lengths, T)

    def where(flags, on_true, on_false):
        return jax.tree.map(lambda a, b: jnp.where(flags.reshape(B, *(1,) * (a.ndim - 1)), a, b), on_true, on_false)

    def body(carry, inputs):
        state, boundary, begun = carry
        x, is_taken, reset = inputs
        boundary = boundary if reverse else boundary | reset
        start = where(boundary, problem.reset, state)
        new, y = cell.update(params, cell.recur(params, cell.project(params, x), start), start)
        boundary, begun = boundary & ~is_taken, begun | is_taken
        boundary = boundary | (reset & begun) if reverse else boundary  # read in reverse, it lies after the step
        return (where(is_taken, new, state), boundary, begun), where(is_taken, y, jnp.zeros_like(y))

    start = (problem.initial, jnp.zeros(B, bool), jnp.zeros(B, bool))
    (final, *_), ys = jax.lax.scan(body, start, (problem.xs, taken, problem.resets), reverse=reverse)
    return final, ys


@every_cell
def test_vmap_equals_the_batched_call(name):
    problem = make_problem(name)

    def of_row(xs, initial, reset, lengths, resets):
        return run(problem, xs=xs, initial=initial, reset=reset, lengths=lengths, resets=resets)

    axes = {"in_axes": (1, 0, 0, 0, 1), "out_axes": (0, 1)}
    rows = jax.vmap(of_row, **axes)(problem.xs, problem.initial, problem.reset, problem.lengths, problem.resets)
    assert_trees_close(rows, run(problem), TOL)


@every_cell
def test_splitting_a_run_changes_nothing(name):
    """The pieces are run by the program of the other tests, all their steps taken."""
    problem = make_problem(name)
    all_steps = jnp.full(B, T)
    xs, resets = (np.concatenate([leaf, leaf[::-1]]) for leaf in (problem.xs, problem.resets))
    middle, ys = run(problem, lengths=all_steps)
    final, later_ys = run(problem, lengths=all_steps, xs=xs[T:], resets=resets[T:], initial=middle)
    whole = run(problem, lengths=2 * all_steps, xs=xs, resets=resets)
    assert_trees_close((final, np.concatenate([ys, later_ys])), whole, TOL)


@every_cell
def test_padding_and_other_rows_are_not_seen(name):
    """NaN after a length changes no bit, in the gradient either; a row depends on itself alone."""
    problem = make_problem(name)
    taken = np.arange(T)[:, None] < np.asarray(problem.lengths)
    taken = taken.reshape(T, B, *(1,) * (problem.xs.ndim - 2))

    @jax.jit
    def value_and_grad(xs):
        def loss(params, xs):
            final, ys = run(problem, params=params, xs=xs)
            return jnp.sum(ys**2), (final, ys)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(problem.params, xs)

    got, want = (value_and_grad(np.where(taken, problem.xs, filling)) for filling in (np.nan, 0.0))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    changed = np.array(problem.xs)
    changed[:, 1] += 1
    last_row = partial(jax.tree.map, lambda leaf: np.asarray(leaf)[2])
    jax.tree.map(np.testing.assert_array_equal, last_row(run(problem, xs=changed)[0]), last_row(run(problem)[0]))


@every_cell
def test_no_loop_over_time_carries_a_weight_gradient(name):
    """In the backward pass the innermost loops carry the state's cotangent and nothing of a parameter's shape."""
    problem = make_problem(name)
    loss = lambda params, xs: jnp.sum(run(problem, "states", params=params, xs=xs)[1] ** 2)  # noqa: E731
    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(problem.params, problem.xs).jaxpr
    scans = [e for e in equations(jaxpr) if e.primitive.name == "scan"]
    inner = [e for e in scans if not any(i.primitive.name == "scan" for i in equations(e.params["jaxpr"].jaxpr))]
    states = {leaf.shape for leaf in jax.tree.leaves(problem.initial)}
    assert inner
    for scan in inner:
        body = scan.params["jaxpr"].jaxpr
        pairs = zip(scan.outvars, body.outvars, strict=True)  # what is stacked over time has an axis more outside
        carried = [inner.aval for outer, inner in pairs if outer.aval.shape == inner.aval.shape]
        shapes = [aval.shape for aval in carried if jnp.issubdtype(aval.dtype, jnp.floating)]
        assert shapes
        assert set(shapes) <= states, shapes
        assert len(shapes) <= len(jax.tree.leaves(problem.initial))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@every_cell
def test_every_dtype_comes_out_as_it_goes_in(name, dtype):
    """Within 3 % of float64 with the same parameters: half precision has 8 bits, rounded once a step."""
    problem = make_problem(name, dtype)
    final, ys = run(problem)
    assert ys.dtype == dtype
    assert [leaf.dtype for leaf in jax.tree.leaves(final)] == [leaf.dtype for leaf in jax.tree.leaves(problem.initial)]
    wide = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf, np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf),
        problem[1:],
    )
    want = np.asarray(run(Problem(problem.cell, *wide))[1])
    np.testing.assert_allclose(np.asarray(ys, np.float64), want, atol=0.03 * np.abs(want).max())


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@every_cell
def test_parameters_are_drawn_in_every_dtype(name, dtype):
    """Traced alone, which shows dtypes; ``make_problem`` casts what is drawn in float64."""
    init = partial(CELLS[name].init, input_size=D, hidden_size=H, dtype=dtype, **OPTIONS.get(name, {}))
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))} == {jnp.dtype(dtype)}


@every_cell
def test_each_gate_is_drawn_by_itself(name):
    """No two blocks of the input kernel are alike."""
    kernel = drawn_params(name).input_kernel
    blocks = np.split(kernel, kernel.shape[-1] // H, -1)
    assert len({block.tobytes() for block in blocks}) == len(blocks)


@every_cell
def test_wrong_parameters_are_named(name):
    problem = make_problem(name)
    with pytest.raises(ValueError, match=r"xs: got 5 features on the last axis .* want the 4 of params.input_kernel"):
        run(problem, xs=np.concatenate([problem.xs, problem.xs[..., :1]], -1))
    with pytest.raises(ValueError, match=r"params\.bias: got shape \(1,\)"):
        run(problem, params=problem.params._replace(bias=np.asarray(problem.params.bias)[:1]))
    with pytest.raises(ValueError, match=r"params: got tuple, want \w+Params"):
        run(problem, params=tuple(problem.params))


@every_cell
def test_nothing_given_means_the_zero_state(name):
    """Without options a run is that from zeros with every step taken and no reset."""
    problem = make_problem(name)
    zeros = problem.cell.zero_state(problem.params, problem.xs.shape[1:-1])
    final, ys = lj.unroll(problem.cell, problem.params, problem.xs)
    assert all(np.isfinite(leaf).all() for leaf in (*jax.tree.leaves(final), ys))
    no_resets = np.zeros((T, B), bool)
    assert_trees_close((final, ys), run(problem, initial=zeros, lengths=jnp.full(B, T), resets=no_resets), TOL)


def test_slstm_is_stabilized():
    """From an empty memory h does not change if all input gates grow by a factor, here exp(200), beyond float32."""
    problem = make_problem("slstm", jnp.float32)
    larger = np.array(problem.params.bias)
    larger[:H] += 200

    @jax.jit
    def outputs_and_slope(bias):
        def loss(bias):
            ys = lj.unroll(problem.cell, problem.params._replace(bias=bias), problem.xs)[1]
            return jnp.sum(ys**2), ys

        return jax.grad(loss, has_aux=True)(bias)[::-1]

    ys, slope = outputs_and_slope(larger)
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(ys, outputs_and_slope(problem.params.bias)[0], atol=1e-4)  # 200 leaves 5 digits


def test_a_clipped_memory_has_a_limit_on_both_sides():
    """Open gates and candidates of 1 and -1 drive the memory to 3 and -3, where it stays."""
    zeros = jax.tree.map(np.zeros_like, drawn_params("clipped"))
    candidates = np.where(np.arange(H) % 2, 20.0, -20.0)
    bias = np.concatenate([np.full(2 * H, 20.0), candidates, np.zeros(H)])
    (_, c), _ = lj.unroll(CELLS["clipped"], zeros._replace(bias=bias), np.zeros((T, D)))
    np.testing.assert_array_equal(c, 3 * np.sign(candidates))


@pytest.mark.parametrize("sizes", [(0, H), (D, 0), (D, -1)])
def test_a_size_of_zero_is_refused(sizes):
    with pytest.raises(ValueError, match=r"_size: got .*, want an integer of at least 1"):
        CELLS["gru"].init(jax.random.key(0), *sizes)


def test_every_cell_has_an_oracle():
    assert set(cell_oracles.STEPS) == set(CELLS)
