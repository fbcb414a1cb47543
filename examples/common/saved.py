"""Saves a trained model in a folder and loads it: parameters, tokenizers and notes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from safetensors import SafetensorError
from tokenizers import Tokenizer

from lstm_jax.interop import safetensors


class Model(NamedTuple):
    """A trained model, with all that its use requires."""

    params: Any
    notes: dict[str, Any]
    """JSON values; ``notes["sizes"]`` has the arguments of the function that initializes the parameters"""
    tokenizers: dict[str, Tokenizer] = {}  # noqa: RUF012  nobody changes it


def save(folder: Path | None, example: str, model: Model) -> None:
    """Writes a model into a folder; only the first process writes.

    Args:
        folder: the folder, created if absent; None writes nothing.
        example: name of the example, which ``load`` checks.
        model: the model.
    """
    if folder is None or jax.process_index():
        return
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / "model.safetensors", model.params)
    notes = {"example": example, **model.notes, "tokenizers": list(model.tokenizers)}
    (folder / "model.json").write_text(json.dumps(notes, indent=1))
    for name, tokenizer in model.tokenizers.items():
        tokenizer.save(str(folder / f"{name}.json"))


def read_notes(folder: Path, example: str) -> dict[str, Any]:
    """Reads the notes of a saved model.

    Args:
        folder: the folder that ``save`` wrote.
        example: name of the example that saved the model.
    Raises:
        SystemExit: the folder has no model of this example.
    """
    _check_files(folder, example, "model.json", "model.safetensors")
    try:
        notes: dict[str, Any] = json.loads((folder / "model.json").read_text())
        saved_by = notes["example"]
    except (ValueError, KeyError) as error:
        raise SystemExit(f"--load: {folder} cannot be read: {error}") from None
    if saved_by != example:
        raise SystemExit(f"--load: {folder} holds a model of {saved_by}, want one of {example}")
    _check_files(folder, example, *(f"{name}.json" for name in notes.get("tokenizers", [])))
    return notes


def load(folder: str | Path, example: str, init: Callable[..., Any]) -> Model:
    """Loads a saved model.

    Args:
        folder: the folder that ``save`` wrote.
        example: name of the example that saved the model.
        init: ``init(key, **notes["sizes"])`` gives parameters of the model's structure and shapes.
    Raises:
        SystemExit: the folder has no model of this example, or its files do not fit together.
    """
    folder = Path(folder)
    notes = read_notes(folder, example)
    try:
        shapes = jax.eval_shape(partial(init, jax.random.key(0), **notes["sizes"]))
        params = safetensors.load(folder / "model.safetensors", shapes)
        tokenizers = {name: Tokenizer.from_file(str(folder / f"{name}.json")) for name in notes["tokenizers"]}
    except (ValueError, KeyError, SafetensorError) as error:
        raise SystemExit(f"--load: {folder} cannot be read: {error}") from None
    return Model(params, notes, tokenizers)


def _check_files(folder: Path, example: str, *names: str) -> None:
    """Raises SystemExit naming the first file that the folder lacks."""
    for name in names:
        if not (folder / name).is_file():
            raise SystemExit(f"--load: {folder} has no {name}, want a folder that --save of {example} wrote")
