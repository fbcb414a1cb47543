"""Reads stories with questions in the format of bAbI, and batches them as word codes."""

import argparse
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from common import texts
from lstm_jax import training

MAX_SENTENCES = 60
"""sentences before a question that are read; older ones are dropped"""


class Question(NamedTuple):
    """A question about a story, with its answer."""

    story: list[str]
    """sentences before the question"""
    question: str
    answer: str


class Task(NamedTuple):
    """Training and test questions of one kind."""

    name: str
    train: list[Question]
    test: list[Question]


class Encoding(NamedTuple):
    """Vocabulary and answers, shared by all tasks."""

    tokenizer: Tokenizer
    answers: list[str]
    """answers by class index"""
    max_words: int
    """number of words of the longest sentence"""


def read_questions(flag: str, path: Path, encoding: str = "utf-8") -> list[Question]:
    """Reads a file of stories in the format of bAbI.

    A line has a number, a blank and a sentence, or a question, a tab and its answer; the number 1 starts a new story.

    Args:
        flag: the command-line flag that error messages name.
        path: the file.
        encoding: its encoding.
    Raises:
        SystemExit: a line has another format; the message names it.
    """
    questions: list[Question] = []
    story: list[str] = []
    for number, line in enumerate(texts.read_lines(flag, path, encoding), start=1):
        match = re.match(r"(\d+) (.+)", line)
        if match is None:
            raise SystemExit(f"{flag}: {path}, line {number}: got {line!r}, want a number, a blank and a sentence")
        if match[1] == "1":
            story = []
        sentence, *answer_fields = match[2].split("\t")
        place = f"{flag}: {path}, line {number}"
        if not plain(sentence):
            raise SystemExit(f"{place}: got no word, want a sentence")
        if not answer_fields and sentence.rstrip().endswith("?"):
            raise SystemExit(f"{place}: got a question alone, want a tab and its answer after it")
        if not answer_fields:
            story.append(plain(sentence))
            continue
        if not story or not answer_fields[0].strip():
            raise SystemExit(f"{place}: want a question after a sentence of its story, a tab, and an answer")
        questions.append(Question(story[-MAX_SENTENCES:], plain(sentence), answer_fields[0].strip()))
    if not questions:
        raise SystemExit(f"{flag}: {path} has no question, want lines of a number, a question, a tab and its answer")
    return questions


def plain(sentence: str) -> str:
    """Converts a sentence to lower-case words separated by blanks, without punctuation."""
    return " ".join(re.findall(r"[\w'-]+", sentence.lower()))


def read_tasks(options: argparse.Namespace) -> list[Task]:
    """Reads the tasks of a folder or of two files, or makes synthetic stories.

    Args:
        options: the flags ``data`` (a folder, a training file, or None for synthetic stories) and ``test`` (the test
            file), and the setting ``encoding``.
    """
    if options.data is None:
        from common import synthetic

        return [Task("synthetic", synthetic.questions(2000, 0), synthetic.questions(500, 1))]
    if options.data.is_file():
        if options.test is None:
            raise SystemExit("--data: got one file and no --test, want a file for it")
        files = [(options.data, options.test)]
    else:
        training_files = options.data.glob("*_train.txt")
        files = [(path, path.with_name(path.name.replace("_train.txt", "_test.txt"))) for path in training_files]
        files.sort(key=lambda pair: [int(part) for part in re.findall(r"\d+", pair[0].name)])
    if not files:
        raise SystemExit(f"--data: {options.data} has no files ..._train.txt")
    read = partial(read_questions, encoding=options.encoding)
    return [
        Task(train.name.removesuffix("_train.txt"), read("--data", train), read("--test", test))
        for train, test in files
    ]


def make_encoding(tasks: list[Task]) -> Encoding:
    """Collects the vocabulary and the answers of the training questions of all tasks."""
    questions = [question for task in tasks for question in task.train]
    sentences = [line for question in questions for line in (*question.story, question.question)]
    answers = sorted({question.answer for question in questions})
    return Encoding(texts.train_word_tokenizer(sentences, 1), answers, max(len(line.split()) for line in sentences))


def make_batches(questions: list[Question], encoding: Encoding, batch_size: int, seed: int) -> training.Bucketed:
    """Batches stories of S sentences, ``[S, B, 1 + W]``: the number of words of each sentence, then their codes.

    Args:
        questions: the questions with their stories.
        encoding: vocabulary and answers; W is its ``max_words``.
        batch_size: questions per batch.
        seed: seed of the order of the batches.
    Returns:
        Batches with the labels "question", ``[B, 1 + W]``, and "answer", ``[B]``: the class index, or -1 for an answer
        that no training question has.
    """
    answer_indices = {answer: index for index, answer in enumerate(encoding.answers)}

    def encode(sentences: list[str]) -> np.ndarray:
        """Encodes sentences as rows ``[S, 1 + W]``."""
        rows = np.zeros((len(sentences), encoding.max_words + 1), np.int32)
        for row, codes in zip(rows, texts.encode(encoding.tokenizer, sentences), strict=True):
            codes = codes[: encoding.max_words]
            row[: len(codes) + 1] = [len(codes), *codes]
        return rows

    labels = {
        "question": encode([question.question for question in questions]),
        "answer": np.array([answer_indices.get(question.answer, -1) for question in questions], np.int32),
    }
    stories = [encode(question.story) for question in questions]
    return training.Bucketed(stories, labels, batch_size, buckets=1, multiple=10, seed=seed)
