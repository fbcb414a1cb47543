"""Transcribes clips with a model of ``recognize_speech.py``; scores and plots the transcripts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jiwer
import numpy as np

from common import saved, speech
from common.speech import LETTERS
from lstm_jax import decoding
from lstm_jax.models import classifier, ctc_recognizer

BEAM_SIZE = 8
MAX_LABELS = 32
"""letters per transcript, at most"""

classify = jax.jit(classifier.classify)


@partial(jax.jit, static_argnames="beam_size")
def decode(params: Any, frames: jax.Array, length: jax.Array, beam_size: int) -> Any:
    """Finds the most probable letters of a clip by CTC.

    Args:
        params: parameters of the recognizer.
        frames: padded frames, ``[T, NUM_MELS]``.
        length: number of frames before the padding.
        beam_size: number of beams; 0 decodes greedily.
    Returns:
        Letters with their number, in ``tokens`` and ``length``.
    """
    logits, length = ctc_recognizer.recognize(params, frames, length)
    if beam_size == 0:
        return decoding.ctc_greedy(logits, length)
    beams = decoding.ctc_beam_search(logits, length, beam_size=beam_size, max_labels=MAX_LABELS)
    return jax.tree.map(lambda leaf: leaf[0], beams)


def transcribe(model: saved.Model, frames: Sequence[np.ndarray], beam_size: int = BEAM_SIZE) -> list[str]:
    """Returns the word or letters of each clip.

    Args:
        model: a model of ``recognize_speech.py``.
        frames: scaled frames of each clip, ``[T, NUM_MELS]``.
        beam_size: number of beams for letters; 0 decodes greedily.
    """
    texts = []
    for clip in frames:
        xs, length = speech.pad_frames(clip)
        if model.notes["task"] == "words":
            texts.append(model.notes["words"][int(jnp.argmax(classify(model.params, xs, length).logits))])
        else:
            decoded = decode(model.params, xs, length, beam_size)
            texts.append("".join(LETTERS[int(label)] for label in decoded.tokens[: int(decoded.length)]))
    return texts


def score(model: saved.Model, test: speech.Utterances) -> dict[str, float]:
    """Transcribes the test part, and prints and returns its scores.

    Args:
        model: a model of ``recognize_speech.py``.
        test: the test clips.
    Returns:
        Word accuracy, or character and word error of greedy decoding and of beam search.
    """
    if model.notes["task"] == "words":
        accuracy = np.mean(
            [text == label for text, label in zip(transcribe(model, test.frames), test.labels, strict=True)]
        )
        print(f"{accuracy:.1%} of {len(test.labels)} words right")
        return {"word accuracy": float(accuracy)}
    scores = {}
    for name, beam_size in (("greedy", 0), (f"{BEAM_SIZE} beams", BEAM_SIZE)):
        texts = transcribe(model, test.frames, beam_size)
        scores[f"character error, {name}"] = float(jiwer.cer(test.labels, texts))
        scores[f"word error, {name}"] = float(jiwer.wer(test.labels, texts))
    print("  ".join(f"{name} {value:.2%}" for name, value in scores.items()))
    for label, text in list(zip(test.labels, texts, strict=True))[:5]:
        print(f"  said {label!r}, recognized {text!r}")
    return scores


def plot_clip(model: saved.Model, frames: np.ndarray, label: str, path: Path) -> None:
    """Plots the frames of a clip, with the probability of each letter or the pooling weight of each frame.

    Args:
        model: a model of ``recognize_speech.py``.
        frames: scaled frames, ``[T, NUM_MELS]``.
        label: the spoken word or words, for the title.
        path: the image file to write.
    """
    length = jnp.int32(len(frames))
    if model.notes["task"] == "letters":
        logits, _ = ctc_recognizer.recognize(model.params, jnp.asarray(frames), length)
        rows, values = ["space" if letter == " " else letter for letter in LETTERS[1:]], jax.nn.softmax(logits).T[1:]
    else:
        rows, values = ["weight"], classifier.classify(model.params, jnp.asarray(frames), length).pooling_weights[None]
    speech.plot_recognition(frames, f"said: {label}", rows, np.asarray(values), path)
