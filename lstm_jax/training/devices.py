"""Data parallelism over a device mesh, with one gradient all-reduce per step, and sharding of wide layers."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lstm_jax._core.structs import PyTree
from lstm_jax.training.loss import LossFn
from lstm_jax.training.metrics import Mean
from lstm_jax.training.step import TrainState

ROWS_SECOND = PartitionSpec(None, "data")
"""Partitions arrays ``[T, B, ...]``, time first, by rows: axis 1 is divided over the mesh axis ``data``."""
ROWS_FIRST = PartitionSpec("data")
"""Partitions arrays ``[B, ...]``, such as states and labels, by rows: axis 0 is divided over ``data``."""
WHOLE = PartitionSpec()
"""Replicates arrays on all devices."""


def parse_mesh(text: str) -> Mesh:
    """Makes a mesh over all devices of all processes from a text such as ``"data=4,model=2"``.

    Raises:
        ValueError: the text is not a list of ``axis=size``, or the sizes do not multiply to the number of devices.
    Example:
        >>> import jax
        >>> from lstm_jax import training
        >>> training.parse_mesh(f"data={jax.device_count()}").axis_names
        ('data',)
    """
    try:
        sizes = {name: int(size) for name, size in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(f"mesh: got {text!r}, want axes and sizes such as 'data=8' or 'data=4,model=2'") from None
    num_devices = int(np.prod(list(sizes.values())))
    if num_devices != len(jax.devices()):
        raise ValueError(f"mesh: got {text!r}, which is {num_devices} devices, want all {len(jax.devices())} devices")
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


class Devices(NamedTuple):
    """A device mesh with an axis ``data``, and how batches and carry are partitioned over that axis.

    ``batch`` and ``carry`` are pytree prefixes of ``PartitionSpec``: one for all leaves, or one for each subtree.

    Example:
        >>> import jax, numpy as np
        >>> from lstm_jax import training
        >>> mesh = training.parse_mesh(f"data={jax.device_count()}")
        >>> devices = training.Devices(mesh, batch=training.ROWS_FIRST)
        >>> devices.to_device(np.zeros((8, 3))).sharding.spec
        P('data',)
    """

    mesh: Mesh
    """device mesh with an axis ``data``; ``parse_mesh`` makes one"""
    batch: PyTree = ROWS_SECOND
    """partition of the batch: ``ROWS_SECOND`` for arrays ``[T, B, ...]``, ``ROWS_FIRST`` for arrays ``[B, ...]``"""
    carry: PyTree = ROWS_FIRST
    """partition of the carry"""
    process_local_batches: bool = False
    """False: all processes load the same global batch and keep their rows. True: each process loads only its own rows,
    which are concatenated in the order of the processes"""

    def to_device(self, batch: PyTree) -> PyTree:
        """Copies a batch from the host to the mesh, divided by rows as ``batch`` specifies.

        Raises:
            ValueError: an array lacks the row axis, or the number of rows is not a multiple of the devices.
        """
        return place(self.mesh, self.batch, batch, "batch", is_process_local=self.process_local_batches)

    def place_state(self, state: TrainState) -> TrainState:
        """Places a training state on the mesh: the carry is divided by rows, all else is replicated.

        Every process passes the same global state.

        Raises:
            ValueError: an array of the carry lacks the row axis, or its number of rows is not a multiple of the
                devices.
        """
        replicated = place(self.mesh, WHOLE, state._replace(carry=None), "state")
        return replicated._replace(carry=place(self.mesh, self.carry, state.carry, "carry"))

    def parallel(self, loss_fn: LossFn) -> LossFn:
        """Returns the mean loss over all devices, each of which evaluates ``loss_fn`` on its rows.

        Parameters are replicated, so each step needs one all-reduce per parameter array, outside all loops. If
        ``metrics["loss"]`` is a ``Mean``, its weight weights the device, so that padding does not bias the loss;
        otherwise all devices have equal weight. Each device folds its index into ``key``.
        """

        def local_loss(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
            device_key = None if key is None else jax.random.fold_in(key, jax.lax.axis_index("data"))
            loss, (carry, metrics) = loss_fn(params, carry, batch, device_key)
            accumulator = metrics.get("loss")
            weight = accumulator.weight if isinstance(accumulator, Mean) else 1.0
            global_loss = jax.lax.psum(loss * weight, "data") / jax.lax.psum(weight, "data")
            return global_loss, (carry, jax.lax.psum(metrics, "data"))

        return jax.shard_map(
            local_loss,
            mesh=self.mesh,
            in_specs=(WHOLE, self.carry, self.batch, WHOLE),
            out_specs=(WHOLE, (self.carry, WHOLE)),
        )


def place(mesh: Mesh, specs: PyTree, tree: PyTree, name: str, *, is_process_local: bool = False) -> PyTree:
    """Copies a pytree of arrays from the host to a mesh.

    Args:
        mesh: device mesh, which may span several processes.
        specs: pytree prefix of ``tree`` whose leaves are ``PartitionSpec``.
        tree: pytree of arrays; the global arrays, or this process's rows if ``is_process_local``.
        name: name of ``tree`` in error messages.
        is_process_local: whether each process passes only its own rows.
    Returns:
        tree: ``tree`` with global arrays, sharded over the mesh.
    Raises:
        ValueError: an array has fewer axes than its spec, or an axis size that is not a multiple of the devices.
    """
    is_spec = lambda node: isinstance(node, PartitionSpec)  # noqa: E731

    def place_leaf(spec: PartitionSpec, path: Any, array: Any) -> jax.Array:
        if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(array))
            return jax.jit(wrap)(place_leaf(spec, path, jax.random.key_data(array)))
        sharding = NamedSharding(mesh, spec)
        host_array = np.asarray(array)
        leaf_name = f"{name}.{jax.tree_util.keystr(path, simple=True, separator='.')}".strip(".")
        _check_partition(leaf_name, host_array, sharding, jax.process_count() if is_process_local else 1)
        if is_process_local:
            return jax.make_array_from_process_local_data(sharding, host_array)
        return jax.make_array_from_callback(host_array.shape, sharding, lambda index: host_array[index])

    def place_subtree(prefix: Any, spec: PartitionSpec, subtree: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: place_leaf(spec, (*prefix, *path), leaf), subtree)

    return jax.tree_util.tree_map_with_path(place_subtree, specs, tree, is_leaf=is_spec)


def _check_partition(name: str, array: np.ndarray, sharding: NamedSharding, num_processes: int) -> None:
    """Checks that the mesh divides each partitioned axis of an array, of which each process holds an equal part."""
    spec = sharding.spec
    if len(spec) > array.ndim:
        raise ValueError(
            f"{name}: got shape {array.shape}, which has no axis {len(spec) - 1} to divide over the devices by {spec}; "
            "where rows are the first axis, want Devices(mesh, batch=training.ROWS_FIRST), or a tree of both"
        )
    for axis, mesh_axes in enumerate(spec):
        mesh_axis_names = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
        num_shards = int(np.prod([sharding.mesh.shape[mesh_axis] for mesh_axis in mesh_axis_names]))
        if array.shape[axis] * num_processes % num_shards:
            raise ValueError(
                f"{name}: got {array.shape[axis]} rows on axis {axis} of shape {array.shape}, want a multiple of "
                f"{num_shards // num_processes}, the devices that share them"
            )


def shard_hidden(mesh: Mesh, params: PyTree) -> PyTree:
    """Shards the last axis of each parameter over the mesh axis ``model``, for layers too wide for one device.

    Functions under a plain ``jax.jit`` then run in parallel on the sharded parameters.

    Args:
        mesh: device mesh with an axis ``model``.
        params: any pytree of arrays; scalars are replicated.
    Returns:
        params: ``params`` with arrays sharded over the mesh.
    Raises:
        ValueError: the size of a last axis is not a multiple of the devices along ``model``.
    Example:
        >>> import jax, lstm_jax as lj
        >>> mesh = lj.training.parse_mesh(f"model={jax.device_count()}")
        >>> params = lj.training.shard_hidden(mesh, lj.init_params(jax.random.key(0), 3, 4))
        >>> params.bias.sharding.spec
        P('model',)
    """
    last_axis = lambda leaf: PartitionSpec(*(None,) * (leaf.ndim - 1), "model") if leaf.ndim else WHOLE  # noqa: E731
    return jax.tree.map(lambda leaf: place(mesh, last_axis(leaf), leaf, "params"), params)
