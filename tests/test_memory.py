"""Laws on the peak of temporary memory, exact as the compiler plans it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from problems import FLOAT, shaped

import lstm_jax as lj
from benchmarks.workloads import WORKLOADS


def our_shapes(workload):
    params = jax.eval_shape(lambda: lj.init_params(jax.random.key(0), workload.D, workload.H))
    return params, shaped(workload.T, workload.B, workload.D), shaped(workload.T, workload.B, workload.H)


def linen(workload):
    return nn.RNN(nn.OptimizedLSTMCell(workload.H, param_dtype=FLOAT), time_major=True)


def peak(function, *shapes):
    """Bytes of temporary memory of the compiled value and gradient with respect to the first two arguments."""
    compiled = jax.jit(jax.value_and_grad(function, (0, 1))).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("mapped", [False, True], ids=["batched", "vmap"])
@pytest.mark.parametrize("name", ["base", "reinforcement", "long"])
def test_saving_states_takes_at_most_0_45_of_linens_memory(name, mapped):
    workload = WORKLOADS[name]
    params, xs, weight = our_shapes(workload)
    layer = linen(workload)
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.zeros(xs.shape, FLOAT)))
    row = linen(workload)

    def ours(params, xs, weight):
        run = lambda xs: lj.lstm(params, xs, remat="states")[1]  # noqa: E731
        return jnp.sum((jax.vmap(run, 1, 1)(xs) - weight if mapped else run(xs) - weight) ** 2)

    def theirs(variables, xs, weight):
        run = lambda xs: row.apply(variables, xs)  # noqa: E731
        return jnp.sum((jax.vmap(run, 1, 1)(xs) - weight if mapped else run(xs) - weight) ** 2)

    assert peak(ours, params, xs, weight) <= 0.45 * peak(theirs, variables, xs, weight)


def test_integer_remat_of_a_final_state_loss_grows_slower_than_time():
    """Sixteen times the steps, four times the segment: four times the memory; "states" takes at least twice that."""

    def final(params, xs, remat):
        return jnp.sum(lj.lstm(params, xs, remat=remat)[0].h)

    def memory(time, remat):
        params = jax.eval_shape(lambda: lj.init_params(jax.random.key(0), 8, 32))
        gradient = jax.jit(jax.grad(lambda params, xs: final(params, xs, remat)))
        return gradient.lower(params, shaped(time, 8, 8)).compile().memory_analysis().temp_size_in_bytes

    assert memory(16384, 128) <= 5 * memory(1024, 32)
    assert memory(16381, 128) <= 1.3 * memory(16384, 128), "a prime number of steps: inputs must not be copied"
    assert memory(65536, "states") >= 8 * memory(4096, "states")


@pytest.mark.parametrize("remat", ["gates", "states"])
def test_a_prime_number_of_steps_takes_no_more_memory(remat):
    def memory(time):
        params = jax.eval_shape(lambda: lj.init_params(jax.random.key(0), 32, 32))
        gradient = jax.grad(lambda params, xs: jnp.sum(lj.lstm(params, xs, remat=remat)[1] ** 2), (0, 1))
        return jax.jit(gradient).lower(params, shaped(time, 8, 32)).compile().memory_analysis().temp_size_in_bytes

    assert memory(16381) <= 1.1 * memory(16384)
