"""Texts of words as numbers, divided for training, validation and test."""

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
"""The deviation of the training windows' length."""
VALIDATION_WINDOW = 20
"""The number of words of each stream whose scores over the whole vocabulary are held at once in validation."""


class Corpus(NamedTuple):
    """Texts as integers, each line with an end token."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads the three files, or the manual that comes with Python, a tenth of it to validate and another to test."""
    if options.data is None:
        from pydoc_data.topics import topics

        lines = [line for name in sorted(topics) for line in topics[name].split("\n")]
        first, second = len(lines) * 8 // 10, len(lines) * 9 // 10
        parts = [lines[:first], lines[first:second], lines[second:]]
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
    """Divides the training text into streams, read in windows of random length."""
    batch, window = options.batch, options.window
    if len(codes) <= batch * window:
        raise SystemExit(f"--data: got {len(codes)} words, want more than batch={batch} times window={window}")
    return training.Stream(codes, batch, window, jitter=WINDOW_JITTER, seed=options.seed)


def stream_held_out(flag: str, codes: np.ndarray, options: argparse.Namespace) -> training.Stream:
    """Divides a held-out text into streams, read in short windows because of the full softmax."""
    window = min(VALIDATION_WINDOW, (len(codes) - 1) // options.batch)
    if window < 1:
        raise SystemExit(f"{flag}: got {len(codes)} words, want more than batch={options.batch}")
    return training.Stream(codes, options.batch, window)


def make_optimizer(
    name: str, learning_rate: float | None
) -> tuple[optax.GradientTransformation, Callable[[TrainState], Any]]:
    """Makes Adam, or gradient descent that averages once validation stalls; also says which parameters to keep."""
    if name == "adam":
        return training.adam(learning_rate or 2e-3), lambda state: state.params
    descent = optax.sgd(learning_rate or 20.0)
    optimizer = optax.chain(optax.clip_by_global_norm(0.25), descent, training.nt_asgd())
    return optimizer, lambda state: training.averaged_params(state.opt_state)


def log_shares(codes: np.ndarray, vocab_size: int) -> jax.Array:
    """The logarithm of how often each word is drawn for a sampled softmax ``[vocab_size]``, up to a constant."""
    counts = np.bincount(codes, minlength=vocab_size)
    return jnp.asarray(0.75 * np.log(np.maximum(counts, 0.5)), jnp.float32)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> jax.Array:
    """Turns a prompt into codes ``[T]``, an empty one into the end of a line."""
    return jnp.array(tokenizer.encode(prompt).ids or texts.encode(tokenizer, [texts.END])[0])


def decode(tokenizer: Tokenizer, prompt: str, codes: Iterable[int]) -> str:
    """Writes a prompt and the words after it, in lines."""
    words = [tokenizer.decode([int(code)], skip_special_tokens=False) for code in codes]
    return " ".join([prompt, *words]).replace(f" {texts.END}", "\n")
