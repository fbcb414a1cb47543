"""Batches spread over devices: the same numbers, one reduction of the gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from problems import (
    FLOAT,
    Options,
    arguments,
    assert_trees_close,
    call,
    cotangents,
    flags,
    random_problem,
    tolerance,
    weigh,
)
from test_laws import every_remat
from test_structure import every_name

import lstm_jax as lj
from benchmarks.hlo import computations


@pytest.mark.usefixtures("short_chunks")
@every_remat
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_batch_sharded_over_devices_gives_the_same_numbers(kind, remat):
    options = Options("mask", "zeros", True)
    problem = random_problem(2, options)
    (params, xs, *_), chosen, weights = arguments(problem, options), flags(problem, options), cotangents(2)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))

    @jax.jit
    def value_and_grad(params, xs, flags):
        run = lambda params, xs: call((params, xs, None, None), flags, options, remat)  # noqa: E731
        return jax.value_and_grad(lambda *args: weigh(run(*args), weights), (0, 1))(params, xs)

    zeros = np.zeros_like(problem.h0)
    from_zeros = problem._replace(h0=zeros, c0=zeros, h_reset=zeros, c_reset=zeros)
    h, c, ys = oracle.run(from_zeros)
    want = weigh(((h, c), ys), weights), (oracle.gradient(from_zeros, *weights)[:2])
    with jax.set_mesh(mesh):
        whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "data"))
        weights = jax.tree.map(lambda leaf: jax.device_put(leaf, whole), weights)
        sharded = jax.device_put((params, xs, chosen), (whole, split, split))
        got = value_and_grad(*sharded)
    assert_trees_close(got, want, tolerance(jnp.float64, xs.shape[0] * xs.shape[1]))  # sums over steps and rows


@every_name
def test_inside_shard_map_the_gradient_is_reduced_once(remat):
    """Data parallelism by hand: the same numbers, and no all-reduce in any loop, over chunks included."""
    mesh = Mesh(jax.devices()[:2], ("data",))
    params = lj.init_params(jax.random.key(0), 3, 4)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(40, 4, 3)).astype(FLOAT))

    def loss(params, xs):
        return jnp.mean(lj.lstm(params, xs, remat=remat)[1] ** 2)

    def local(params, xs):
        return jax.value_and_grad(lambda params: jax.lax.pmean(loss(params, xs), "data"))(params)

    whole, split = PartitionSpec(), PartitionSpec(None, "data")
    step = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(whole, split), out_specs=whole))
    assert_trees_close(step(params, xs), jax.jit(jax.value_and_grad(loss))(params, xs), tolerance(FLOAT, 40))
    bodies = computations(step.lower(params, xs).compile().as_text())
    holders = [body for body in bodies.values() if re.search(r"= .* all-reduce\(", body)]
    assert holders, "no all-reduce found"
    assert all("ROOT" in body and "parameter(1)" in body and "while(" in body for body in holders), "not in the entry"
