"""One program on many devices and machines: where arrays lie, and gradients reduced once a step."""

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
"""The rows of arrays ``[T, B, ...]``, time first."""
ROWS_FIRST = PartitionSpec("data")
"""The rows of arrays ``[B, ...]``, such as states and labels."""
WHOLE = PartitionSpec()
"""Arrays that every device holds as a whole."""


def parse_mesh(text: str) -> Mesh:
    """Makes a mesh over all devices, those of other processes included, from text such as ``"data=4,model=2"``.

    Raises:
        ValueError: the text has another form, or another number of devices than there are.
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
    count = int(np.prod(list(sizes.values())))
    if count != len(jax.devices()):
        raise ValueError(f"mesh: got {text!r}, which is {count} devices, want the {len(jax.devices())} that there are")
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


class Devices(NamedTuple):
    """A mesh with an axis ``data``, and along which of their axes batch and carry are divided over it.

    Specifications are trees that begin as the arrays' own do: one for all leaves, or one for each part.

    Example:
        >>> import jax, numpy as np
        >>> from lstm_jax import training
        >>> mesh = training.parse_mesh(f"data={jax.device_count()}")
        >>> devices = training.Devices(mesh, batch=training.ROWS_FIRST)
        >>> devices.to_device(np.zeros((8, 3))).sharding.spec
        P('data',)
    """

    mesh: Mesh
    batch: PyTree = ROWS_SECOND
    """where a batch has its rows: ``ROWS_SECOND`` for ``[T, B, ...]``, ``ROWS_FIRST`` for ``[B, ...]``"""
    carry: PyTree = ROWS_FIRST
    """where the carry has its rows"""
    process_local_batches: bool = False
    """false: every process reads the same batches and keeps its rows; true: each process reads only its own rows, which
    together are the batch, in the order of the processes"""

    def to_device(self, batch: PyTree) -> PyTree:
        """Places a batch of the host on the mesh: each device gets its rows.

        Raises:
            ValueError: an array has no such axis, or its rows cannot be divided over the devices.
        """
        return place(self.mesh, self.batch, batch, "batch", is_process_local=self.process_local_batches)

    def place_state(self, state: TrainState) -> TrainState:
        """Places a training state on the mesh: every device holds all of it, and of the carry its rows.

        The carry is the whole one, the same in every process.

        Raises:
            ValueError: a part of the carry has no such axis, or its rows cannot be divided over the devices.
        """
        whole = place(self.mesh, WHOLE, state._replace(carry=None), "state")
        return whole._replace(carry=place(self.mesh, self.carry, state.carry, "carry"))

    def parallel(self, loss_fn: LossFn) -> LossFn:
        """Returns the loss over all devices, each with its rows.

        Parameters enter whole, so their gradient is summed over the devices where they enter: one all-reduce for each
        of them in a step, outside every loop. Devices count by the weight of ``metrics["loss"]``, if the loss has such
        a ``Mean``, so that padding on one of them changes nothing; else alike. Each draws from a key of its own.
        """

        def local_loss(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
            own_key = None if key is None else jax.random.fold_in(key, jax.lax.axis_index("data"))
            loss, (carry, metrics) = loss_fn(params, carry, batch, own_key)
            accumulator = metrics.get("loss")
            weight = accumulator.weight if isinstance(accumulator, Mean) else 1.0
            total = jax.lax.psum(loss * weight, "data") / jax.lax.psum(weight, "data")
            return total, (carry, jax.lax.psum(metrics, "data"))

        return jax.shard_map(
            local_loss,
            mesh=self.mesh,
            in_specs=(WHOLE, self.carry, self.batch, WHOLE),
            out_specs=(WHOLE, (self.carry, WHOLE)),
        )


def place(mesh: Mesh, specs: PyTree, tree: PyTree, name: str, *, is_process_local: bool = False) -> PyTree:
    """Places arrays of the host on a mesh.

    Args:
        mesh: of devices, of other processes too.
        specs: a tree of specifications that begins as ``tree`` does.
        tree: the arrays; every process has the same ones, or its own rows of them.
        name: what an error calls the tree.
        is_process_local: whether each process has its own rows.
    Returns:
        tree: of arrays on the mesh.
    Raises:
        ValueError: an array has fewer axes than its specification, or a size that the mesh does not divide.
    """
    is_spec = lambda node: isinstance(node, PartitionSpec)  # noqa: E731

    def place_leaf(spec: PartitionSpec, path: Any, array: Any) -> jax.Array:
        if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(array))
            return jax.jit(wrap)(place_leaf(spec, path, jax.random.key_data(array)))
        sharding, host = NamedSharding(mesh, spec), np.asarray(array)
        num_shares = jax.process_count() if is_process_local else 1
        _check_axes(
            ".".join([name, jax.tree_util.keystr(path, simple=True, separator=".")]), host, sharding, num_shares
        )
        if is_process_local:
            return jax.make_array_from_process_local_data(sharding, host)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    def place_part(prefix: Any, spec: PartitionSpec, part: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: place_leaf(spec, (*prefix, *path), leaf), part)

    return jax.tree_util.tree_map_with_path(place_part, specs, tree, is_leaf=is_spec)


def _check_axes(name: str, array: np.ndarray, sharding: NamedSharding, num_shares: int) -> None:
    name, spec = name.strip("."), sharding.spec
    if len(spec) > array.ndim:
        raise ValueError(
            f"{name}: got shape {array.shape}, which has no axis {len(spec) - 1} to divide over the devices by {spec}; "
            "where rows are the first axis, want Devices(mesh, batch=training.ROWS_FIRST), or a tree of both"
        )
    for axis, part in enumerate(spec):
        names = (part,) if isinstance(part, str) else part or ()
        size = int(np.prod([sharding.mesh.shape[axis_name] for axis_name in names]))
        if array.shape[axis] * num_shares % size:
            raise ValueError(
                f"{name}: got {array.shape[axis]} rows on axis {axis} of shape {array.shape}, want a multiple of "
                f"{size // num_shares}, the devices that share them"
            )


def shard_hidden(mesh: Mesh, params: PyTree) -> PyTree:
    """Divides kernels and biases along their last axis over ``model``, for layers too wide for one device.

    A plain ``jit`` over such parameters computes with them where they lie.

    Args:
        mesh: has an axis ``model``.
        params: any tree of arrays; scalars stay whole.
    Returns:
        params: on the mesh.
    Raises:
        ValueError: a last axis is no multiple of the devices along ``model``.
    Example:
        >>> import jax, lstm_jax as lj
        >>> mesh = lj.training.parse_mesh(f"model={jax.device_count()}")
        >>> params = lj.training.shard_hidden(mesh, lj.init_params(jax.random.key(0), 3, 4))
        >>> params.bias.sharding.spec
        P('model',)
    """
    axes = lambda leaf: PartitionSpec(*(None,) * (leaf.ndim - 1), "model") if leaf.ndim else WHOLE  # noqa: E731
    return jax.tree.map(lambda leaf: place(mesh, axes(leaf), leaf, "params"), params)
