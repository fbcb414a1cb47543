"""Checkpoints by Orbax: written beside the last ones and then moved into place, so that a kill leaves the last ones."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.extras import import_extra


class Saving(NamedTuple):
    """Where, how often and whether from before a run is kept; for ``fit(..., saving=Saving(folder))``.

    With it SIGTERM, like Ctrl-C, ends the run after the step at hand, with a checkpoint.
    """

    folder: Path | str
    every: int = 500
    """steps between checkpoints"""
    resume: bool = False
    """whether to go on from the newest checkpoint, if there is one"""
    keep: int = 2
    """how many checkpoints are kept; older ones are deleted"""
    tensorboard: bool = False
    """whether rows are also written for TensorBoard, which needs tensorboardX"""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is that of another run.

    Args:
        message: what failed, and where.
        result: the ``FitResult`` of training if only its last checkpoint failed, so that nothing is lost; else None.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class RestoredCheckpoint(NamedTuple):
    """The content of a checkpoint."""

    step: int
    tree: PyTree
    notes: dict[str, Any]


class Checkpoints:
    """The newest checkpoints of one run in a folder.

    Args:
        folder: made if it is not there.
        keep: how many; older ones are deleted once a newer one is whole.
    Raises:
        ImportError: Orbax is not installed.
    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from lstm_jax import training
        >>> checkpoints = training.Checkpoints(tempfile.mkdtemp())
        >>> checkpoints.save(3, {"w": jnp.ones(2)}, {"loss": 0.5})
        >>> checkpoints.latest(), checkpoints.read_notes(), checkpoints.restore({"w": jnp.zeros(2)}).tree["w"].tolist()
        (3, {'loss': 0.5}, [1.0, 1.0])
    """

    def __init__(self, folder: Path | str, *, keep: int = 2) -> None:
        self.ocp, self.folder = import_extra("orbax.checkpoint"), Path(folder).resolve()
        options = self.ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self.manager = self.ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """Returns the step of the newest whole checkpoint; None if there is none."""
        step: int | None = self.manager.latest_step()
        return step

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
            step: its number, larger than those before.
            tree: of arrays.
            notes: what JSON holds.
        Raises:
            CheckpointError: it could not be written, for example since the disk is full; older ones are untouched.
        """
        args = self.ocp.args
        notes = notes | {"layout": layout(tree)}
        try:
            self.manager.save(step, args=args.Composite(tree=args.StandardSave(tree), notes=args.JsonSave(notes)))
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be written ({reason}); older ones are whole. "
                "Is the disk full?"
            ) from error

    def read_notes(self) -> dict[str, Any]:
        """Returns the notes of the newest checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        notes = self._read_notes(self._newest())
        del notes["layout"]
        return notes

    def restore(self, like: PyTree) -> RestoredCheckpoint:
        """Returns the newest checkpoint, in the structure, shapes, dtypes and shardings of ``like``.

        Raises:
            CheckpointError: there is none, or it is that of another model; the first difference is named.
        """
        step, args = self._newest(), self.ocp.args
        notes = self._read_notes(step)
        check_layout(f"{self.folder}, step {step}", notes.pop("layout"), layout(like))
        tree = self.manager.restore(step, args=args.Composite(tree=args.StandardRestore(like))).tree
        return RestoredCheckpoint(step, jax.tree.map(_uncommit, tree, like), notes)

    def close(self) -> None:
        """Ends the threads that Orbax keeps running."""
        self.manager.close()

    def _newest(self) -> int:
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        return step

    def _read_notes(self, step: int) -> dict[str, Any]:
        args = self.ocp.args
        return dict(self.manager.restore(step, args=args.Composite(notes=args.JsonRestore())).notes)


def _uncommit(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """The leaf, bound to its device only if ``like`` is, since a step is compiled for one or the other."""
    if getattr(like, "committed", True):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.asarray(np.asarray(jax.random.key_data(leaf))), impl=jax.random.key_impl(leaf)
        )
    return jnp.asarray(np.asarray(leaf))


def layout(tree: PyTree) -> dict[str, str]:
    """Returns each leaf's path with its dtype and shape."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def check_layout(name: str, layout: dict[str, str], wanted: dict[str, str]) -> None:
    """Checks that a checkpoint has the leaves that are wanted.

    Args:
        name: what an error calls the checkpoint.
        layout: that of the checkpoint.
        wanted: that of the model.
    Raises:
        CheckpointError: names the first difference.
    """
    for path in [*wanted, *layout]:
        if layout.get(path) != wanted.get(path):
            raise CheckpointError(
                f"{name}: the checkpoint of another model: {path} is {layout.get(path, 'absent')}, this one has "
                f"{wanted.get(path, 'no such part')}"
            )
