"""The kernels for NVIDIA GPUs, in Pallas' interpreter, which looks for races too; and lowered for a GPU."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import FLOAT, GRID, arguments, assert_trees_close, cotangents, flags, random_problem, weigh

import lstm_jax as lj
from lstm_jax._core import sequence, tuning
from lstm_jax._core.call import check_call
from lstm_jax._core.implementations import mosaic_gpu
from lstm_jax._core.implementations.table import TABLE, Implementation
from lstm_jax._core.structs import SequenceOptions

if jax.__version_info__ < (0, 11):
    pytest.skip("the kernels are written for jax 0.11 and newer", allow_module_level=True)

pytestmark = pytest.mark.all_cases
TIME = 6
PRODUCT = {jnp.float32: 2.0**-15, jnp.bfloat16: 2.0**-7}
"""What a product may be off by: factors in 16 bits, or 8, and a bit for the sum."""


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    from jax.experimental.pallas import mosaic_gpu as plgpu

    def interpret(kernel, *arrays):
        run = partial(kernel, interpret=plgpu.InterpretGPUParams(detect_races=True))
        shapes = jax.eval_shape(kernel, *arrays)

        def on_the_host(*arrays):
            with jax.default_device(jax.devices()[1]):
                return jax.tree.map(np.asarray, jax.jit(run)(*arrays))

        return jax.pure_callback(on_the_host, shapes, *arrays)

    plans = partial(mosaic_gpu.plans, launch=interpret)
    monkeypatch.setitem(
        TABLE, "mosaic_gpu", Implementation(mosaic_gpu.why_not_on_hopper, is_complete=True, plans=plans)
    )


def call(args, chosen, options, remat=None):
    params, xs, initial, reset = args
    return lj.lstm(
        params,
        xs,
        initial,
        reset_state=reset,
        reverse=options.reverse,
        remat=remat,
        implementation="mosaic_gpu",
        **chosen,
    )


@pytest.mark.parametrize("options", GRID[::3], ids=str)
def test_values_and_gradients_equal_the_oracle(options):
    problem = random_problem(GRID.index(options), options, time=TIME)
    args, chosen, weights = arguments(problem, options, jnp.float32), flags(problem, options), cotangents(0, time=TIME)
    tolerance = TIME * PRODUCT[jnp.float32]

    @jax.jit
    def value_and_grad(args):
        def loss(args):
            result = call(args, chosen, options)
            return weigh(result, weights), result

        return jax.value_and_grad(loss, has_aux=True)(args)

    (_, ((h, c), ys)), (dparams, dxs, dinitial, dreset) = value_and_grad(args)
    assert_trees_close((h, c, ys), oracle.run(problem), tolerance)
    want = oracle.gradient(problem, *weights)
    assert_trees_close(dparams, want.weights, tolerance)
    assert_trees_close(dxs, want.x, tolerance)
    assert_trees_close(dinitial, (want.h0, want.c0), tolerance)
    if dreset is not None:
        assert_trees_close(dreset, (want.h_reset, want.c_reset), tolerance)


def small(seed=0, hidden=5, dtype=jnp.float32, batch=(3,)):
    """Parameters, inputs and a state of a layer of 2 inputs."""
    keys = jax.random.split(jax.random.key(seed), 4)
    params = lj.init_params(keys[0], 2, hidden, dtype=dtype)
    xs = jax.random.normal(keys[1], (TIME, *batch, 2), dtype)
    state = lj.LSTMState(jax.random.normal(keys[2], (*batch, hidden), dtype), jnp.ones((*batch, hidden), jnp.float32))
    return params, xs, state


def both(function, *arguments):
    """A function of an implementation's name: by the kernel, and by the scan."""
    return function("mosaic_gpu", *arguments), function("scan", *arguments)


def loss(name, params, xs, state, **options):
    (h, c), ys = lj.lstm(params, xs, state, implementation=name, **options)
    wide = [one.astype(jnp.float32) for one in (h, c, ys)]
    return sum(jnp.sum(jnp.sin(one)) for one in wide)


@pytest.mark.parametrize(("dtype", "hidden"), [(jnp.bfloat16, 100), (jnp.float32, 64)], ids=str)
def test_two_groups_of_warps_and_two_blocks_of_sequences(dtype, hidden):
    """100 units fill two groups, and 19 sequences two blocks; in bfloat16 the scan rounds h as the kernel does."""
    params, xs, state = small(1, hidden, dtype, (19,))
    got, want = both(lambda name: jax.value_and_grad(loss, (1, 2, 3))(name, params, xs, state))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = float(jnp.abs(other.astype(jnp.float32)).max())
        off = float(jnp.abs(one.astype(jnp.float32) - other.astype(jnp.float32)).max())
        assert off <= TIME * PRODUCT[dtype] * scale


@pytest.mark.parametrize("remat", ["gates", "states", 4])
def test_chunks_and_batch_axes(remat, monkeypatch):
    """Chunks of 4 of 6 steps, and of 3 in reverse with lengths, over two batch axes and none."""
    whole = TABLE["mosaic_gpu"].plans

    def in_chunks(*arguments):
        return {platform: plan._replace(max_chunk_steps=4) for platform, plan in whole(*arguments).items()}

    monkeypatch.setitem(TABLE, "mosaic_gpu", TABLE["mosaic_gpu"]._replace(plans=in_chunks))
    lengths = jnp.array([[6, 0], [2, 4], [1, 6]])
    cases = [(small(2, batch=(3, 2)), {"lengths": lengths, "reverse": True}), (small(3, batch=()), {})]
    for arguments_, options in cases:
        gradient = jax.jit(jax.grad(partial(loss, remat=remat, **options), (1, 2, 3)), static_argnums=0)
        got, want = both(lambda name, gradient=gradient, given=arguments_: gradient(name, *given))
        assert_trees_close(got, want, TIME * PRODUCT[jnp.float32])


def test_vmap_over_sequences_and_over_parameters():
    params, xs, state = small(4, batch=(2, 3))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    resets = jax.random.bernoulli(jax.random.key(9), 0.3, xs.shape[:-1])

    def each(name, axis):
        def one(params, xs, state, resets):
            return jax.grad(loss, (1, 2, 3))(name, params, xs, state, resets=resets)

        return jax.jit(jax.vmap(one, (axis, 1, 0, 1)))(many if axis == 0 else params, xs, state, resets)

    for axis in (None, 0):
        got, want = both(each, axis)
        assert_trees_close(got, want, TIME * PRODUCT[jnp.float32])


def test_forward_mode_and_second_derivatives():
    params, xs, state = small(5)
    direction = jax.tree.map(jnp.ones_like, params)

    def forward_mode(name):
        return jax.jvp(lambda params: loss(name, params, xs, state), (params,), (direction,))

    def curvature(name):
        gradient = jax.grad(lambda params: loss(name, params, xs, state))
        return jax.jvp(gradient, (params,), (direction,))[1]

    def gradient_of_a_gradient(name):
        def length(xs):
            return jnp.sum(jax.grad(lambda xs: loss(name, params, xs, state))(xs) ** 2)

        return jax.grad(length)(xs)

    for function in (forward_mode, curvature, gradient_of_a_gradient):
        got, want = both(function)
        assert_trees_close(got, want, 4 * TIME * PRODUCT[jnp.float32])


@pytest.mark.parametrize(("dtype", "hidden"), [(jnp.bfloat16, 128), (jnp.float32, 64)], ids=str)
def test_both_kernels_are_lowered_for_a_gpu(dtype, hidden):
    """The whole gradient, exported for CUDA from here: layouts, transfers and shared memory are settled by then."""
    by_kernel = Implementation(mosaic_gpu.why_not, is_complete=True, plans=mosaic_gpu.plans)
    spec = sequence.StaticArgs(sequence.LSTM, by_kernel, False, None, tuple(tuning.SCAN_CONFIGS.items()))
    params, xs, state = small(6, hidden, dtype, (40,))
    for lengths in (None, jnp.full(40, 3)):
        call = check_call(sequence.LSTM, params, xs, state, SequenceOptions(lengths=lengths))

        def total(params, call=call):
            (_, _), ys = sequence.run(spec, call._replace(params=params))
            return jnp.sum(ys.astype(jnp.float32))

        text = jax.export.export(jax.jit(jax.grad(total)), platforms=["cuda"])(params).mlir_module()
        assert text.count("stablehlo.custom_call @mosaic_gpu") == 2
        assert "stablehlo.while" not in text, "no loop is left outside the kernels"


def test_the_most_units_are_what_shared_memory_holds():
    from lstm_jax._core.implementations import kernels

    for parts, units in mosaic_gpu.MAX_HIDDEN_SIZE.items():
        for rows, fits in ((units, True), (units + 64, False)):
            shapes = [(2, 4, rows, 16), (parts * 4, rows, rows), (rows, 16), (rows, 16)]
            z, kernel, h, c = (
                jnp.zeros(shape, jnp.bfloat16 if shape[1:] == (rows, rows) else FLOAT) for shape in shapes
            )
            run = jax.jit(lambda z, kernel, h, c: kernels.forward(z, kernel, (h, c), None, None, reverse=False))
            if fits:
                jax.export.export(run, platforms=["cuda"])(z, kernel, h, c)
                continue
            with pytest.raises(ValueError, match="shared memory"):
                jax.export.export(run, platforms=["cuda"])(z, kernel, h, c)
