"""Stories with questions, in the format of bAbI, and the numbers that a model reads."""

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
"""The number of sentences before a question that are read, the newest."""


class Question(NamedTuple):
    """A question, the story before it, and its answer."""

    story: list[str]
    question: str
    answer: str


class Task(NamedTuple):
    """Questions of one kind."""

    name: str
    train: list[Question]
    test: list[Question]


class Encoding(NamedTuple):
    """The meaning of the numbers, the same for all tasks."""

    tokenizer: Tokenizer
    answers: list[str]
    max_words: int
    """the words of the longest sentence"""


def read_questions(flag: str, path: Path, encoding: str = "utf-8") -> list[Question]:
    """Reads a file of stories; SystemExit that names the line which cannot serve."""
    questions: list[Question] = []
    story: list[str] = []
    for number, line in enumerate(texts.read_lines(flag, path, encoding), start=1):
        match = re.match(r"(\d+) (.+)", line)
        if match is None:
            raise SystemExit(f"{flag}: {path}, line {number}: got {line!r}, want a number, a blank and a sentence")
        if match[1] == "1":
            story = []
        sentence, *rest = match[2].split("\t")
        place = f"{flag}: {path}, line {number}"
        if not plain(sentence):
            raise SystemExit(f"{place}: got no word, want a sentence")
        if not rest and sentence.rstrip().endswith("?"):
            raise SystemExit(f"{place}: got a question alone, want a tab and its answer after it")
        if not rest:
            story.append(plain(sentence))
            continue
        if not story or not rest[0].strip():
            raise SystemExit(f"{place}: want a question after a sentence of its story, a tab, and an answer")
        questions.append(Question(story[-MAX_SENTENCES:], plain(sentence), rest[0].strip()))
    if not questions:
        raise SystemExit(f"{flag}: {path} has no question, want lines of a number, a question, a tab and its answer")
    return questions


def plain(sentence: str) -> str:
    """Reduces a sentence to words in lower case with blanks between, without marks."""
    return " ".join(re.findall(r"[\w'-]+", sentence.lower()))


def read_tasks(options: argparse.Namespace) -> list[Task]:
    """Reads a folder of tasks or two files, or makes synthetic stories."""
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
    """Numbers the words and answers of all training questions."""
    questions = [question for task in tasks for question in task.train]
    sentences = [line for question in questions for line in (*question.story, question.question)]
    answers = sorted({question.answer for question in questions})
    return Encoding(texts.train_word_tokenizer(sentences, 1), answers, max(len(line.split()) for line in sentences))


def make_batches(questions: list[Question], encoding: Encoding, batch_size: int, seed: int) -> training.Bucketed:
    """Batches stories by their number of sentences; a sentence is its number of words and then the words.

    An answer that no training question has is -1, which the model never gives.
    """
    number = {answer: place for place, answer in enumerate(encoding.answers)}

    def encode(sentences: list[str]) -> np.ndarray:
        """Turns sentences into rows of equal length."""
        rows = np.zeros((len(sentences), encoding.max_words + 1), np.int32)
        for row, codes in zip(rows, texts.encode(encoding.tokenizer, sentences), strict=True):
            codes = codes[: encoding.max_words]
            row[: len(codes) + 1] = [len(codes), *codes]
        return rows

    labels = {
        "question": encode([question.question for question in questions]),
        "answer": np.array([number.get(question.answer, -1) for question in questions], np.int32),
    }
    stories = [encode(question.story) for question in questions]
    return training.Bucketed(stories, labels, batch_size, buckets=1, multiple=10, seed=seed)
