"""Reads pairs of sentences and translations, batches them as subwords, and scores translations."""

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
"""subwords to which longer sentences are cut"""
START, END = 1, 2
BATCH_SIZE = 64
SEARCH_BATCH = 100
"""sentences per batch of the search"""


class Pairs(NamedTuple):
    """Sentences with their translations, in the same order."""

    source: list[str]
    target: list[str]


class Corpus(NamedTuple):
    """The three parts of a parallel corpus, with the subword tokenizer of each language."""

    train: Pairs
    valid: Pairs
    test: Pairs
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer


def read_pairs(flag: str, paths: Sequence[Path], encoding: str) -> Pairs:
    """Reads two files, of which each line of the second translates the same line of the first.

    Args:
        flag: the command-line flag that error messages name.
        paths: the two files.
        encoding: their encoding.
    Raises:
        SystemExit: the numbers of lines differ, or a line is empty.
    """
    source, target = (texts.read_lines(flag, path, encoding) for path in paths)
    if len(source) != len(target):
        raise SystemExit(f"{flag}: {paths[0]} has {len(source)} lines and {paths[1]} {len(target)}, want as many")
    empty = [k for k, pair in enumerate(zip(source, target, strict=True), start=1) if not all(map(str.strip, pair))]
    if empty:
        raise SystemExit(f"{flag}: line {empty[0]} of {paths[0]} or {paths[1]} is empty, want a sentence in each")
    return Pairs(source, target)


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads the parallel corpus, or makes synthetic pairs of numbers in words and digits, and trains the tokenizers.

    Args:
        options: the flags ``data``, ``valid``, ``test`` and ``smoke``, and the settings ``subwords`` and ``encoding``.
    """
    if options.data is None:
        train, valid, test = (Pairs(*synthetic.numbers(count, seed)) for seed, count in enumerate((5000, 500, 500)))
    else:
        if options.valid is None or options.test is None:
            raise SystemExit("--data: got no --valid or no --test, want two files for each")
        files = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
        train, valid, test = (read_pairs(flag, paths, options.encoding) for flag, paths in files)
    source, target = (texts.train_subword_tokenizer(side, options.subwords) for side in train)
    print(f"{len(train.source):,} pairs, {source.get_vocab_size():,} and {target.get_vocab_size():,} subwords")
    if options.smoke:
        test = Pairs(test.source[:20], test.target[:20])
    return Corpus(train, valid, test, source, target)


def make_batches(pairs: Pairs, corpus: Corpus, buckets: int, seed: int = 0) -> training.Bucketed:
    """Batches pairs by length: subword codes ``([S, B], [T, B])``, targets between START and END.

    Args:
        pairs: the sentences.
        corpus: provides the tokenizers.
        buckets: number of lengths to which pairs are padded.
        seed: seed of the order of the batches.
    """
    source = [codes[:MAX_SUBWORDS] for codes in texts.encode(corpus.source_tokenizer, pairs.source)]
    target = [
        np.array([START, *codes[:MAX_SUBWORDS], END], np.int32)
        for codes in texts.encode(corpus.target_tokenizer, pairs.target)
    ]
    return training.Bucketed((source, target), batch_size=BATCH_SIZE, buckets=buckets, seed=seed)


def translate_lines(
    search: Callable[[jax.Array | np.ndarray, np.ndarray, int], decoding.DecodeResult],
    source: Tokenizer,
    target: Tokenizer,
    lines: Sequence[str],
) -> list[str]:
    """Translates sentences in batches of similar length.

    Args:
        search: ``search(codes, lengths, max_length)``, with codes ``[S, B]`` and lengths ``[B]``.
        source: tokenizer of the sentences.
        target: tokenizer of the translations.
        lines: the sentences.
    Returns:
        The translations, in the order of the sentences.
    """
    codes = [sentence[:MAX_SUBWORDS] for sentence in texts.encode(source, lines)]
    order = sorted(range(len(codes)), key=lambda index: len(codes[index]))
    translations = [""] * len(codes)
    batch_size = min(SEARCH_BATCH, len(codes))
    for start in range(0, len(order), batch_size):
        rows = np.resize(order[start : start + batch_size], batch_size)
        num_steps = -(-max(len(codes[row]) for row in rows) // 10) * 10  # a multiple of ten: few programs
        xs = np.zeros((num_steps, batch_size), np.int32)
        for column, row in enumerate(rows):
            xs[: len(codes[row]), column] = codes[row]
        best = search(xs, np.array([len(codes[row]) for row in rows], np.int32), 2 * num_steps + 10)
        for column, row in enumerate(rows):
            translations[row] = target.decode(np.asarray(best.tokens[column, : best.length[column]]).tolist())
    return translations


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Returns the lower-case BLEU of translations, by sacrebleu, from 0 to 100."""
    return sacrebleu.corpus_bleu(translations, [references], lowercase=True).score


def print_samples(pairs: Pairs, translations: Sequence[str], count: int = 5) -> None:
    """Prints the first ``count`` sentences with their translations and references."""
    print()
    for line, reference, translation in list(zip(*pairs, translations, strict=True))[:count]:
        print(f"  {line}\n  -> {translation}\n   = {reference}\n")


def plot_attention(model: saved.Model, line: str, translation: str, path: Path) -> None:
    """Plots the attention weights of each subword of a translation over the subwords of the source.

    Args:
        model: a model of ``translate.py`` with attention.
        line: the source sentence.
        translation: its translation.
        path: the image file to write.
    """
    source = model.tokenizers["source"].encode(line)
    target = model.tokenizers["target"].encode(translation)
    source_codes, target_inputs = jnp.array(source.ids), jnp.array([START, *target.ids])
    lengths = jnp.int32(len(source_codes))
    weights = seq2seq.teacher_force(model.params, source_codes, lengths, target_inputs).attention_weights
    pictures.plot_attention(
        weights,
        [*target.tokens, texts.END],
        source.tokens,
        path,
        figsize=(1.5 + 0.42 * len(source.ids), 1.5 + 0.36 * len(target.ids)),
        labels=("source", "translation"),
        rotation=60,
    )
