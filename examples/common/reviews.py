"""Reads labeled texts and batches them; scores by class; logistic regression as a baseline."""

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
"""occurrences in the training texts from which a word is a token"""


class Corpus(NamedTuple):
    """The three parts of a set of labeled texts, with class names and tokenizer."""

    train: texts.LabeledTexts
    valid: texts.LabeledTexts
    test: texts.LabeledTexts
    names: list[str]
    """names of the classes, by class index"""
    tokenizer: Tokenizer


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads labeled texts, or makes synthetic reviews, and trains the tokenizer.

    Args:
        options: the flags ``data``, ``valid`` and ``test``, and the setting ``encoding``. Without ``data`` the reviews
            are synthetic; without ``valid`` or ``test`` the part is a tenth of the training texts.
    Raises:
        SystemExit: a file cannot be read, or the labels are not classes.
    """
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
    """Batches the texts of one part by length: word codes ``[T, B]`` with class indices ``[B]``.

    Args:
        corpus: the texts.
        part: "train", "valid" or "test".
        batch_size: texts per batch.
        buckets: number of lengths to which texts are padded.
        seed: seed of the order of the batches.
    """
    rows = getattr(corpus, part)
    labels = texts.label_numbers("--data" if part == "train" else f"--{part}", rows, corpus.names)
    return training.Bucketed(texts.encode(corpus.tokenizer, rows.texts), labels, batch_size, buckets=buckets, seed=seed)


def logistic_regression(train: texts.LabeledTexts, test: texts.LabeledTexts) -> float:
    """Returns the test accuracy of a logistic regression on which words and pairs of words occur.

    Args:
        train: texts to fit.
        test: texts to score.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), binary=True), LogisticRegression(max_iter=1000)
    )
    return float(model.fit(train.texts, train.labels).score(test.texts, test.labels))


def count_answers(loss_fn: Callable[..., Any], params: Any, tests: training.Bucketed) -> metrics.Confusion:
    """Sums the confusion matrix of a model over all test batches.

    Args:
        loss_fn: a loss whose metrics include "confusion".
        params: parameters of the model.
        tests: batches of the test part.
    """
    loss = jax.jit(loss_fn)
    return reduce(metrics.add, [loss(params, None, tests[k], None)[1][1]["confusion"] for k in range(len(tests))])


def print_classes(confusion: metrics.Confusion, names: Sequence[str]) -> None:
    """Prints precision, recall and F1 of each class, then macro F1 and accuracy."""
    width = max(map(len, [*names, "accuracy"]))
    print(f"{'':{width}} precision recall     F1  texts")
    columns = np.stack([confusion.precision(), confusion.recall(), confusion.f1()], axis=1)
    for name, row, count in zip(names, columns, np.asarray(confusion.counts).sum(axis=1), strict=True):
        print(f"{name:{width}} {row[0]:9.3f} {row[1]:6.3f} {row[2]:6.3f} {count:6.0f}")
    print(f"{'macro F1':{width}} {float(confusion.macro_f1()):24.3f}")
    print(f"{'accuracy':{width}} {float(confusion.micro_f1()):24.3f}")
