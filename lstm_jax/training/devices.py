"""One program on many devices and machines: where arrays lie, and gradients reduced once a step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lstm_jax._core.structs import PyTree
from lstm_jax.training.metrics import Mean
from lstm_jax.training.step import Loss, TrainState

ROWS_SECOND = PartitionSpec(None, "data")
"""Arrays ``[T, B, ...]``, time first."""
ROWS_FIRST = PartitionSpec("data")
"""Arrays ``[B, ...]``: states, labels."""
WHOLE = PartitionSpec()


def parse_mesh(text: str) -> Mesh:
    """``"data=8"`` or ``"data=4,model=2"`` as a mesh over all devices, those of other processes included."""
    try:
        sizes = {name: int(size) for name, size in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(f"mesh: got {text!r}, want axes and sizes such as 'data=8' or 'data=4,model=2'") from None
    count = int(np.prod(list(sizes.values())))
    if count != len(jax.devices()):
        raise ValueError(f"mesh: got {text!r}, which is {count} devices, want the {len(jax.devices())} that there are")
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


class Devices(NamedTuple):
    """A mesh with an axis ``data``, and how batch and carry are cut along it.

    Specifications are trees that begin as the arrays' own do: one for all leaves, or one for each part.
    """

    mesh: Mesh
    batch: PyTree = ROWS_SECOND
    carry: PyTree = ROWS_FIRST

    def put(self, batch: PyTree) -> PyTree:
        """A batch of the host, the same in every process, onto the mesh: each device gets its rows."""
        return place(self.mesh, self.batch, batch)

    def place(self, state: TrainState) -> TrainState:
        """A training state onto the mesh: all whole on every device, but the carry, which has rows."""
        whole = place(self.mesh, WHOLE, state._replace(carry=None))
        return whole._replace(carry=place(self.mesh, self.carry, state.carry))

    def parallel(self, loss_fn: Loss) -> Loss:
        """The loss over all devices, each with its rows.

        Parameters enter whole, so their gradient is summed over the devices where they enter: one all-reduce for each
        of them in a step, outside every loop. Devices count by the weight of ``metrics["loss"]``, if the loss has such
        a ``Mean``, so that padding on one of them changes nothing; else alike. Each draws from a key of its own.
        """

        def local(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
            own = None if key is None else jax.random.fold_in(key, jax.lax.axis_index("data"))
            loss, (carry, metrics) = loss_fn(params, carry, batch, own)
            counted = metrics.get("loss")
            weight = counted.weight if isinstance(counted, Mean) else 1.0
            total = jax.lax.psum(loss * weight, "data") / jax.lax.psum(weight, "data")
            return total, (carry, jax.lax.psum(metrics, "data"))

        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(WHOLE, self.carry, self.batch, WHOLE),
            out_specs=(WHOLE, (self.carry, WHOLE)),
        )


def place(mesh: Mesh, specs: PyTree, tree: PyTree) -> PyTree:
    """Arrays of the host on the mesh, by specifications that begin as the tree does."""
    is_spec = lambda node: isinstance(node, PartitionSpec)  # noqa: E731

    def leaf(spec: PartitionSpec, array: Any) -> jax.Array:
        sharding = NamedSharding(mesh, spec)
        if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(array))
            return jax.jit(wrap)(leaf(spec, jax.random.key_data(array)))
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(lambda spec, part: jax.tree.map(lambda x: leaf(spec, x), part), specs, tree, is_leaf=is_spec)


def shard_hidden(mesh: Mesh, params: PyTree) -> PyTree:
    """Kernels and biases cut along their last axis over ``model``, for layers too wide for one device.

    A plain ``jit`` over such parameters computes with them where they lie.
    """
    axes = lambda leaf: PartitionSpec(*(None,) * (leaf.ndim - 1), "model") if leaf.ndim else WHOLE  # noqa: E731
    return jax.tree.map(lambda leaf: place(mesh, axes(leaf), leaf), params)
