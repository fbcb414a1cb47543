"""Orbax checkpoints, written atomically so that a killed process leaves the earlier checkpoints intact."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.extras import import_extra
from lstm_jax._core.structs import PyTree


class Saving(NamedTuple):
    """Configures checkpoints and history files in ``fit``: the folder, the interval, and whether to resume.

    With ``Saving``, SIGTERM stops training after the current step with a checkpoint, as Ctrl-C does.
    """

    folder: Path | str
    """folder of the run; created if it does not exist"""
    every: int = 500
    """steps between checkpoints"""
    resume: bool = False
    """whether to continue from the newest checkpoint, if there is one"""
    keep: int = 2
    """number of newest checkpoints to keep"""
    tensorboard: bool = False
    """whether to write the history for TensorBoard too, which needs tensorboardX"""


class CheckpointError(RuntimeError):
    """Raised if a checkpoint or the history cannot be written, or if a checkpoint belongs to another run.

    Args:
        message: the file or folder, and the reason.
        result: the ``FitResult`` if training finished and only writing failed; otherwise None.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class RestoredCheckpoint(NamedTuple):
    """The contents of a checkpoint: its step, its pytree of arrays and its JSON notes."""

    step: int
    tree: PyTree
    notes: dict[str, Any]


class Checkpoints:
    """Saves and restores the checkpoints of one run in a folder.

    Args:
        folder: folder of the checkpoints; created if it does not exist.
        keep: number of newest checkpoints to keep; older ones are deleted after a newer one is complete.
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
        self.ocp = import_extra("orbax.checkpoint", "training")
        self.folder = Path(folder).resolve()
        options = self.ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self.manager = self.ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint; None if there is none."""
        step: int | None = self.manager.latest_step()
        return step

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Saves a checkpoint.

        Args:
            step: step of the checkpoint, larger than that of every earlier checkpoint.
            tree: pytree of arrays.
            notes: dict that JSON can represent.
        Raises:
            CheckpointError: the checkpoint could not be written, for example because the disk is full; earlier
                checkpoints are unchanged.
        """
        args = self.ocp.args
        all_notes = notes | {"layout": layout(tree)}
        try:
            self.manager.save(step, args=args.Composite(tree=args.StandardSave(tree), notes=args.JsonSave(all_notes)))
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be written ({reason}); older ones are intact. "
                "Is the disk full?"
            ) from error

    def read_notes(self) -> dict[str, Any]:
        """Returns the notes of the newest checkpoint.

        Raises:
            CheckpointError: the folder has no checkpoint.
        """
        notes = self._read_notes(self._latest_or_raise())
        del notes["layout"]
        return notes

    def restore(self, like: PyTree) -> RestoredCheckpoint:
        """Restores the newest checkpoint with the structure, shapes, dtypes and shardings of ``like``.

        Raises:
            CheckpointError: the folder has no checkpoint, or the checkpoint belongs to another model; the message names
                the first difference.
        """
        step = self._latest_or_raise()
        args = self.ocp.args
        notes = self._read_notes(step)
        check_layout(f"{self.folder}, step {step}", notes.pop("layout"), layout(like))
        tree = self.manager.restore(step, args=args.Composite(tree=args.StandardRestore(like))).tree
        return RestoredCheckpoint(step, jax.tree.map(_commit_like, tree, like), notes)

    def close(self) -> None:
        """Stops the threads of Orbax."""
        self.manager.close()

    def _latest_or_raise(self) -> int:
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        return step

    def _read_notes(self, step: int) -> dict[str, Any]:
        args = self.ocp.args
        return dict(self.manager.restore(step, args=args.Composite(notes=args.JsonRestore())).notes)


def _commit_like(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """Uncommits the leaf from its device unless ``like`` is committed, so that a compiled step accepts it."""
    if getattr(like, "committed", True):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.asarray(np.asarray(jax.random.key_data(leaf))), impl=jax.random.key_impl(leaf)
        )
    return jnp.asarray(np.asarray(leaf))


def layout(tree: PyTree) -> dict[str, str]:
    """Returns the dtype and shape of each leaf by its path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def check_layout(name: str, layout: dict[str, str], wanted: dict[str, str]) -> None:
    """Checks that a checkpoint and a model have the same leaves, with the same dtypes and shapes.

    Args:
        name: name of the checkpoint in the error message.
        layout: ``layout(tree)`` of the checkpoint.
        wanted: ``layout(tree)`` of the model.
    Raises:
        CheckpointError: the layouts differ; the message names the first difference.
    """
    for path in [*wanted, *layout]:
        if layout.get(path) != wanted.get(path):
            raise CheckpointError(
                f"{name}: the checkpoint of another model: {path} is {layout.get(path, 'absent')}, this one has "
                f"{wanted.get(path, 'no such part')}"
            )
