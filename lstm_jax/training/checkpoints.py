"""Checkpoints by Orbax: written beside the last ones and then moved into place, so that a kill leaves the last ones."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is that of another run.

    ``fitted`` is what training gave if only its last checkpoint failed, so that nothing is lost.
    """

    def __init__(self, message: str, fitted: Any = None) -> None:
        super().__init__(message)
        self.fitted = fitted


class RestoredCheckpoint(NamedTuple):
    """What a checkpoint held."""

    step: int
    tree: PyTree
    notes: dict[str, Any]


class Checkpoints:
    """The newest checkpoints of one run in a folder.

    Args:
        keep: how many; older ones are deleted once a newer one is whole.
    """

    def __init__(self, folder: Path | str, *, keep: int = 2) -> None:
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ImportError("checkpoints need orbax: pip install 'lstm_jax[training]'") from error
        self.ocp, self.folder = ocp, Path(folder).resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint; None if there is none."""
        step: int | None = self.manager.latest_step()
        return step

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Writes a checkpoint of a tree of arrays, and notes as JSON.

        Raises:
            CheckpointError: it could not be written, for a full disk say; older checkpoints are untouched.
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

    def restore(self, like: PyTree) -> RestoredCheckpoint:
        """The newest checkpoint, in the structure, shapes, dtypes and shardings of ``like``.

        Raises:
            CheckpointError: there is none, or it is that of another model; the first difference is named.
        """
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        args = self.ocp.args
        notes = self.manager.restore(step, args=args.Composite(notes=args.JsonRestore())).notes
        check_layout(f"{self.folder}, step {step}", notes.pop("layout"), layout(like))
        tree = self.manager.restore(step, args=args.Composite(tree=args.StandardRestore(like))).tree
        return RestoredCheckpoint(step, jax.tree.map(_uncommitted, tree, like), notes)

    def close(self) -> None:
        """Ends what Orbax keeps running."""
        self.manager.close()


def _uncommitted(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """Bound to its device only if the other one is, since a step is compiled for one or the other."""
    if getattr(like, "committed", True):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jnp.asarray(np.asarray(jax.random.key_data(leaf))), impl=jax.random.key_impl(leaf)
        )
    return jnp.asarray(np.asarray(leaf))


def layout(tree: PyTree) -> dict[str, str]:
    """Each leaf's path with its dtype and shape."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def check_layout(name: str, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Both have the same leaves; else the first difference."""
    for path in [*wanted, *found]:
        if found.get(path) != wanted.get(path):
            raise CheckpointError(
                f"{name}: the checkpoint of another model: {path} is {found.get(path, 'absent')}, this one has "
                f"{wanted.get(path, 'no such part')}"
            )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; a last one that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
