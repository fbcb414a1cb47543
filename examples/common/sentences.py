"""Sentences and their translations as subwords, divided for training, validation and test."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sacrebleu
from tokenizers import Tokenizer

from common import pictures, saved, synthetic, texts
from lstm_jax import decoding, training
from lstm_jax.models import seq2seq

MAX_SUBWORDS = 50
"""The number of subwords to which longer sentences are cut."""
START, END = 1, 2
BATCH_SIZE = 64
SEARCH_BATCH = 100
"""The number of sentences that are translated at once."""


class Pairs(NamedTuple):
    """Sentences and their translations."""

    source: list[str]
    target: list[str]


class Corpus(NamedTuple):
    """The three parts, and the subwords of both languages."""

    train: Pairs
    valid: Pairs
    test: Pairs
    source: Tokenizer
    target: Tokenizer


def read_pairs(flag: str, paths: Sequence[Path], encoding: str) -> Pairs:
    """Reads two files of as many lines."""
    source, target = (texts.read_lines(flag, path, encoding) for path in paths)
    if len(source) != len(target):
        raise SystemExit(f"{flag}: {paths[0]} has {len(source)} lines and {paths[1]} {len(target)}, want as many")
    empty = [k for k, pair in enumerate(zip(source, target, strict=True), start=1) if not all(map(str.strip, pair))]
    if empty:
        raise SystemExit(f"{flag}: line {empty[0]} of {paths[0]} or {paths[1]} is empty, want a sentence in each")
    return Pairs(source, target)


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads the files, or makes synthetic pairs of numbers in words and in digits."""
    if options.data is None:
        train, valid, test = (Pairs(*synthetic.numbers(count, seed)) for seed, count in enumerate((5000, 500, 500)))
    else:
        if options.valid is None or options.test is None:
            raise SystemExit("--data: got no --valid or no --test, want two files for each")
        files = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
        train, valid, test = (read_pairs(flag, paths, options.encoding) for flag, paths in files)
    source, target = (texts.train_subword_tokenizer(side, options.subwords) for side in train)
    print(f"{len(train.source):,} pairs, {source.get_vocab_size():,} and {target.get_vocab_size():,} subwords")
    return Corpus(train, valid, Pairs(test.source[:20], test.target[:20]) if options.smoke else test, source, target)


def make_batches(pairs: Pairs, corpus: Corpus, buckets: int, seed: int = 0) -> training.Bucketed:
    """Batches sentences by length; targets stand between START and END."""
    source = [codes[:MAX_SUBWORDS] for codes in texts.encode(corpus.source, pairs.source)]
    target = [
        np.array([START, *codes[:MAX_SUBWORDS], END], np.int32) for codes in texts.encode(corpus.target, pairs.target)
    ]
    return training.Bucketed((source, target), batch_size=BATCH_SIZE, buckets=buckets, seed=seed)


def translate_lines(
    search: Callable[[jax.Array | np.ndarray, np.ndarray, int], decoding.DecodeResult],
    source: Tokenizer,
    target: Tokenizer,
    lines: Sequence[str],
) -> list[str]:
    """Translates each line, many at once, similar lengths together.

    Args:
        search: ``search(codes, lengths, max_length)``, codes ``[S, B]``.
        source: the tokenizer of the lines.
        target: the tokenizer of the translations.
        lines: the sentences.
    """
    codes = [sentence[:MAX_SUBWORDS] for sentence in texts.encode(source, lines)]
    order = sorted(range(len(codes)), key=lambda place: len(codes[place]))
    translations = [""] * len(codes)
    width = min(SEARCH_BATCH, len(codes))
    for start in range(0, len(order), width):
        rows = np.resize(order[start : start + width], width)
        steps = -(-max(len(codes[row]) for row in rows) // 10) * 10  # a multiple of ten: few programs
        xs = np.zeros((steps, width), np.int32)
        for column, row in enumerate(rows):
            xs[: len(codes[row]), column] = codes[row]
        best = search(xs, np.array([len(codes[row]) for row in rows], np.int32), 2 * steps + 10)
        for column, row in enumerate(rows):
            translations[row] = target.decode(np.asarray(best.tokens[column, : best.length[column]]).tolist())
    return translations


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """The BLEU of sacrebleu in lower case."""
    return sacrebleu.corpus_bleu(translations, [references], lowercase=True).score


def print_samples(pairs: Pairs, translations: Sequence[str], count: int = 5) -> None:
    """Prints the first sentences, their translations, and what they should be."""
    print()
    for line, reference, translation in list(zip(*pairs, translations, strict=True))[:count]:
        print(f"  {line}\n  -> {translation}\n   = {reference}\n")


def plot_attention(model: saved.Model, line: str, translation: str, path: Path) -> None:
    """Draws which subwords of the source each subword of the translation attended to."""
    source, target = model.tokenizers["source"].encode(line), model.tokenizers["target"].encode(translation)
    codes, read = jnp.array(source.ids), jnp.array([START, *target.ids])
    weights = seq2seq.teacher_force(model.params, codes, jnp.int32(len(codes)), read).attention_weights
    pictures.plot_attention(
        weights,
        [*target.tokens, texts.END],
        source.tokens,
        path,
        figsize=(1.5 + 0.42 * len(source.ids), 1.5 + 0.36 * len(target.ids)),
        labels=("source", "translation"),
        rotation=60,
    )
