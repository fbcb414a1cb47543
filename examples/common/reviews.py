"""Labeled texts as numbers, divided for training, validation and test; scores by class, and a naive classifier."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from common import synthetic, texts
from lstm_jax import training
from lstm_jax.training import metrics

MIN_WORD_COUNT = 2
"""How often a word must occur in the training texts to be a token."""


class Corpus(NamedTuple):
    """The three parts, and the meaning of their numbers."""

    train: texts.LabeledTexts
    valid: texts.LabeledTexts
    test: texts.LabeledTexts
    names: list[str]
    """of the classes"""
    tokenizer: Tokenizer


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads the files, or makes synthetic reviews."""
    if options.data is None:
        train, valid, test = (synthetic.reviews(count, seed) for seed, count in enumerate((2000, 400, 400)))
    else:
        read = partial(texts.read_labeled, encoding=options.encoding)
        train = read("--data", options.data)
        parts = []
        for flag, path in (("--test", options.test), ("--valid", options.valid)):
            train, part = (train, read(flag, path)) if path else texts.split_rows(train, 0.1, seed=0)
            parts.append(part)
        test, valid = parts
    names = sorted(set(train.labels))
    if not 1 < len(names) <= max(2, len(train.labels) // 2):
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        raise SystemExit(
            f"--data: got {len(names)} classes in {len(train.labels)} texts ({shown}), want at least two, and a label "
            "first on each line"
        )
    tokenizer = texts.train_word_tokenizer(train.texts, MIN_WORD_COUNT)
    print(f"{len(train.labels):,} texts, {tokenizer.get_vocab_size():,} words, classes {names}")
    return Corpus(train, valid, test, names, tokenizer)


def make_batches(corpus: Corpus, part: str, batch_size: int, buckets: int, seed: int = 0) -> training.Bucketed:
    """Batches the part "train", "valid" or "test" by length: codes of words, and numbers of classes."""
    rows = getattr(corpus, part)
    labels = texts.label_numbers("--data" if part == "train" else f"--{part}", rows, corpus.names)
    return training.Bucketed(texts.encode(corpus.tokenizer, rows.texts), labels, batch_size, buckets=buckets, seed=seed)


def logistic_regression(train: texts.LabeledTexts, test: texts.LabeledTexts) -> float:
    """The accuracy of a logistic regression on counts of words and of pairs of words, by scikit-learn."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), binary=True), LogisticRegression(max_iter=1000)
    )
    return float(model.fit(train.texts, train.labels).score(test.texts, test.labels))


def count_answers(loss_fn: Callable[..., Any], params: Any, tests: training.Bucketed) -> metrics.Confusion:
    """Counts how often each class of the test texts was given each answer."""
    loss = jax.jit(loss_fn)
    return reduce(metrics.add, [loss(params, None, tests[k], None)[1][1]["confusion"] for k in range(len(tests))])


def print_classes(confusion: metrics.Confusion, names: Sequence[str]) -> None:
    """Prints precision, recall and F1 of each class, and their means."""
    width = max(map(len, [*names, "accuracy"]))
    print(f"{'':{width}} precision recall     F1  texts")
    columns = np.stack([confusion.precision(), confusion.recall(), confusion.f1()], axis=1)
    for name, row, count in zip(names, columns, np.asarray(confusion.counts).sum(axis=1), strict=True):
        print(f"{name:{width}} {row[0]:9.3f} {row[1]:6.3f} {row[2]:6.3f} {count:6.0f}")
    print(f"{'macro F1':{width}} {float(confusion.macro_f1()):24.3f}")
    print(f"{'accuracy':{width}} {float(confusion.micro_f1()):24.3f}")
