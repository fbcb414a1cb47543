"""Sound files into frames of log-mel energies, and back; what cannot serve is told by option and file."""

import io
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import signal

RATE = 8000
WINDOW, HOP, BINS = 256, 80, 40
"""samples of a frame and from frame to frame, at 8 kHz 32 and 10 ms; mel bands"""
FLOOR = 1e-5


class Clip(NamedTuple):
    """A recording: of what, by whom, its number, samples from -1 to 1."""

    label: str
    speaker: str
    number: int
    samples: np.ndarray


def read_clips(option: str, path: Path) -> list[Clip]:
    """Every LABEL_SPEAKER_INDEX.wav in a folder or in a .tar.gz file, by name."""
    clips = []
    for name, data in _files(option, path):
        parts = Path(name).stem.split("_")
        if len(parts) != 3 or not parts[2].isdigit():
            raise SystemExit(
                f"{option}: {path}: got {name}, want names such as 7_jackson_32.wav: label, speaker, number"
            )
        clips.append(Clip(parts[0], parts[1], int(parts[2]), read_wav(f"{option}: {path}: {name}", data)))
    if not clips:
        raise SystemExit(f"{option}: {path} has no .wav file")
    return clips


def _files(option: str, path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.glob("*.wav")))
        return
    try:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                if member.name.endswith(".wav") and (file := archive.extractfile(member)):
                    yield member.name, file.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SystemExit(f"{option}: {path} is neither a folder nor a .tar.gz file that can be read: {error}") from None


def read_wav(name: str, data: bytes) -> np.ndarray:
    """Samples of one channel of 16 bits at 8 kHz."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            kind = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise SystemExit(f"{name} is no WAV file that can be read: {error}") from None
    if kind != (1, 16, RATE):
        raise SystemExit(
            f"{name}: got {kind[0]} channels of {kind[1]} bits at {kind[2]} Hz, want 1 of 16 bits at {RATE} Hz; "
            "convert it, for example: sox in.wav -c 1 -b 16 -r 8000 out.wav"
        )
    if not frames:
        raise SystemExit(f"{name} has no samples")
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Samples from -1 to 1 as 16 bits at 8 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def mel_bands() -> np.ndarray:
    """``[WINDOW / 2 + 1, BINS]``: triangles evenly spaced in mel = 2595 log10(1 + f / 700)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), BINS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Complex, ``[T, WINDOW / 2 + 1]``."""
    _, _, found = signal.stft(samples, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP, boundary="zeros", padded=True)
    return found.T


def log_mel(samples: np.ndarray) -> np.ndarray:
    """``[T, BINS]``, natural logarithms."""
    return np.log(np.abs(spectrum(samples)) ** 2 @ mel_bands() + FLOOR**2).astype(np.float32)


def to_samples(frames: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Sound with these log-mel frames: magnitudes by least squares, phases by Griffin and Lim 1984."""
    power = np.maximum(np.exp(frames) @ np.linalg.pinv(mel_bands()), FLOOR**2)
    magnitude = np.sqrt(power).T
    phase = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape))
    for _ in range(rounds):
        _, samples = signal.istft(magnitude * phase, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
        again = spectrum(samples).T[:, : magnitude.shape[1]]
        again = np.pad(again, ((0, 0), (0, magnitude.shape[1] - again.shape[1])))
        phase = np.exp(1j * np.angle(again))
    _, samples = signal.istft(magnitude * phase, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    return samples.astype(np.float32)


KEYS = {
    name: (low, high)
    for name, low, high in zip(
        "1234567890", (697,) * 3 + (770,) * 3 + (852,) * 3 + (941,), (1209, 1336, 1477) * 3 + (1336,), strict=True
    )
}
"""The two tones of each telephone key, in Hz."""


def synthetic(count: int, seed: int) -> list[Clip]:
    """Telephone keys, pressed for a while, with noise."""
    draw = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        label = str(draw.integers(10))
        time = np.arange(int(RATE * draw.uniform(0.15, 0.4))) / RATE
        tones = sum(np.sin(2 * np.pi * frequency * time + draw.uniform(0, 6)) for frequency in KEYS[label])
        samples = 0.2 * tones + draw.normal(scale=0.1, size=len(time))
        clips.append(Clip(label, f"phone{number % 3}", number % 50, samples.astype(np.float32)))
    return clips
