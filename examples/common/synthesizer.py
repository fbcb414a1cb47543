"""Speech synthesis by a recurrent model that predicts the log-mel frames of a word by a speaker, one after another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import lstm_jax as lj
from common.sounds import NUM_MELS
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, init_embedding

PRENET_SIZE = 64
EMBEDDING_SIZE = 32
DROPOUT_RATE = 0.5
"""dropout of the previous frame, in training and in use (Wang et al. 2017)"""
NUM_LAYERS = 2
MIN_FRAMES = 8
MAX_FRAMES = 100


class Voices(NamedTuple):
    """Word index and speaker index of B clips, ``[B]`` each."""

    word: Any
    speaker: Any


class SynthesizerParams(NamedTuple):
    """Parameters of the model."""

    words: jax.Array
    """``[words, EMBEDDING_SIZE]``"""
    speakers: jax.Array
    """``[speakers, EMBEDDING_SIZE]``"""
    prenet: DenseParams
    layers: tuple[Any, ...]
    frame: DenseParams
    """``[H, NUM_MELS]``"""
    stop: DenseParams
    """``[H, 1]``"""


def init_synthesizer(key: jax.Array, words: int, speakers: int, hidden: int) -> SynthesizerParams:
    """Initializes embeddings, the prenet of the previous frame, LSTM layers, and a dense layer for each output.

    Args:
        key: PRNG key.
        words: number of words.
        speakers: number of speakers.
        hidden: units of each LSTM layer.
    """
    keys = jax.random.split(key, 6)
    return SynthesizerParams(
        init_embedding(keys[0], words, EMBEDDING_SIZE),
        init_embedding(keys[1], speakers, EMBEDDING_SIZE),
        init_dense(keys[2], NUM_MELS, PRENET_SIZE),
        lj.init_stack(keys[3], PRENET_SIZE + 2 * EMBEDDING_SIZE + 2, hidden, NUM_LAYERS),
        init_dense(keys[4], hidden, NUM_MELS),
        init_dense(keys[5], hidden, 1),
    )


def predict_frames(
    params: SynthesizerParams, states: Any, previous: jax.Array, voices: Voices, start: Any, key: jax.Array
) -> tuple[Any, jax.Array, jax.Array]:
    """Predicts each next frame from the previous one, and whether it is the last.

    Args:
        params: parameters of the model.
        states: states of the LSTM layers; None means zeros.
        previous: previous frames, ``[T, B, NUM_MELS]``.
        voices: word and speaker of each clip.
        start: index of the first frame to predict.
        key: key for the dropout of the previous frames.
    Returns:
        (states, frames, stop_logits): final states; predicted frames ``[T, B, NUM_MELS]``; logits ``[T, B]`` of a
        frame being the last.
    """
    hidden = dropout(key, jax.nn.relu(dense(params.prenet, previous)), DROPOUT_RATE)
    steps = (start + jnp.arange(len(previous), dtype=jnp.float32)) / MAX_FRAMES
    time = jnp.stack([steps, jnp.sqrt(steps)], axis=-1)[:, None]
    embedding = jnp.concatenate([params.words[voices.word], params.speakers[voices.speaker]], axis=-1)[None]
    inputs = [hidden, *(jnp.broadcast_to(part, (*previous.shape[:2], part.shape[-1])) for part in (embedding, time))]
    states, ys = lj.lstm_stack(params.layers, jnp.concatenate(inputs, axis=-1), states)
    return states, dense(params.frame, ys), dense(params.stop, ys)[..., 0]


@jax.jit
def generate_frames(params: SynthesizerParams, voices: Voices, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Generates the frames of clips autoregressively.

    Args:
        params: parameters of the model.
        voices: word and speaker of each clip.
        key: key for the dropout of the previous frames.
    Returns:
        (frames, lengths): ``[MAX_FRAMES, B, NUM_MELS]``, and the number of frames up to the predicted last one, at
        least MIN_FRAMES, ``[B]``.
    """
    batch_size = voices.word.shape[0]

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        """Predicts one frame from the previous one."""
        (states, frame), (index, key) = carry, inputs
        states, frames, logits = predict_frames(params, states, frame[None], voices, index, key)
        return (states, frames[0]), (frames[0], logits[0])

    carry = lj.stack_zero_state(params.layers, (batch_size,)), jnp.zeros((batch_size, NUM_MELS))
    inputs = jnp.arange(MAX_FRAMES, dtype=jnp.float32), jax.random.split(key, MAX_FRAMES)
    _, (frames, logits) = jax.lax.scan(step, carry, inputs)
    is_last = (logits > 0).at[-1].set(True)
    return frames, jnp.maximum(jnp.argmax(is_last, axis=0) + 1, MIN_FRAMES)
