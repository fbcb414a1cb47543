"""Reads texts as integer codes of words for language models, and makes the optimizer of AWD-LSTM."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer

from common import texts
from lstm_jax import training
from lstm_jax.training import TrainState

WINDOW_JITTER = 5.0
"""standard deviation of the length of training windows, in words"""
VALIDATION_WINDOW = 20
"""words per stream and window in validation; few, since the full softmax needs much memory"""


class Corpus(NamedTuple):
    """Word codes of the three parts, ``[T]`` each, with an end token after each line."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads the three texts, by default Python's manual with a tenth for validation and a tenth for testing.

    Args:
        options: the flags ``data``, ``valid`` and ``test``, and the settings ``min_word_count`` and ``encoding``.
    """
    if options.data is None:
        from pydoc_data.topics import topics

        lines = [line for name in sorted(topics) for line in topics[name].split("\n")]
        valid_start, test_start = len(lines) * 8 // 10, len(lines) * 9 // 10
        parts = [lines[:valid_start], lines[valid_start:test_start], lines[test_start:]]
    else:
        if options.valid is None or options.test is None:
            raise SystemExit("--data: got no --valid or no --test, want a file for each")
        files = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
        parts = [texts.read_lines(flag, path, options.encoding) for flag, path in files]
    tokenizer = texts.train_word_tokenizer(parts[0], options.min_word_count, lower=False)
    end = tokenizer.token_to_id(texts.END)
    train, valid, test = (
        np.concatenate([[*encoding.ids, end] for encoding in tokenizer.encode_batch(part)]).astype(np.int32)
        for part in parts
    )
    print(f"{len(train):,} words to train on, {tokenizer.get_vocab_size():,} different")
    return Corpus(train, valid, test, tokenizer)


def stream_train(codes: np.ndarray, options: argparse.Namespace) -> training.Stream:
    """Divides the training text into parallel streams with windows of random length.

    Args:
        codes: the text, ``[T]``.
        options: the settings ``batch``, ``window`` and ``seed``.
    """
    batch, window = options.batch, options.window
    if len(codes) <= batch * window:
        raise SystemExit(f"--data: got {len(codes)} words, want more than batch={batch} times window={window}")
    return training.Stream(codes, batch, window, jitter=WINDOW_JITTER, seed=options.seed)


def stream_held_out(flag: str, codes: np.ndarray, options: argparse.Namespace) -> training.Stream:
    """Divides a held-out text into parallel streams with windows of at most VALIDATION_WINDOW words.

    Args:
        flag: the command-line flag that the error message names.
        codes: the text, ``[T]``.
        options: the setting ``batch``.
    """
    window = min(VALIDATION_WINDOW, (len(codes) - 1) // options.batch)
    if window < 1:
        raise SystemExit(f"{flag}: got {len(codes)} words, want more than batch={options.batch}")
    return training.Stream(codes, options.batch, window)


def make_optimizer(
    name: str, learning_rate: float | None
) -> tuple[optax.GradientTransformation, Callable[[TrainState], Any]]:
    """Makes the optimizer, and the function that reads the parameters to validate and keep.

    Args:
        name: "adam", or "nt-asgd" for SGD that averages parameters once the validation loss stalls.
        learning_rate: the learning rate; None means 2e-3 for "adam", 20 for "nt-asgd".
    Returns:
        (optimizer, kept_params): ``kept_params(train_state)`` gives the current or the averaged parameters.
    """
    if name == "adam":
        return training.adam(learning_rate or 2e-3), lambda state: state.params
    descent = optax.sgd(learning_rate or 20.0)
    optimizer = optax.chain(optax.clip_by_global_norm(0.25), descent, training.nt_asgd())
    return optimizer, lambda state: training.averaged_params(state.opt_state)


def log_shares(codes: np.ndarray, vocab_size: int) -> jax.Array:
    """Returns unnormalized log-probabilities by which a sampled softmax draws words.

    Args:
        codes: the training text, ``[T]``.
        vocab_size: number of words.
    Returns:
        Log-probabilities up to a constant, ``[vocab_size]``.
    """
    counts = np.bincount(codes, minlength=vocab_size)
    return jnp.asarray(0.75 * np.log(np.maximum(counts, 0.5)), jnp.float32)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> jax.Array:
    """Converts a prompt to word codes ``[T]``; an empty prompt becomes the end token."""
    return jnp.array(tokenizer.encode(prompt).ids or texts.encode(tokenizer, [texts.END])[0])


def decode(tokenizer: Tokenizer, prompt: str, codes: Iterable[int]) -> str:
    """Returns a prompt followed by the words of codes; end tokens become line breaks."""
    words = [tokenizer.decode([int(code)], skip_special_tokens=False) for code in codes]
    return " ".join([prompt, *words]).replace(f" {texts.END}", "\n")
