"""Sounds and their short-time spectra, without torch; a ratio of signal to distortion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

__all__ = ["HOP", "POWER", "RATE", "WINDOW", "Wave", "si_sdr", "sound_of", "sounds", "spectrum"]

RATE = 8_000
WINDOW, HOP = 256, 128
POWER = 0.3
"""Magnitudes are raised to it, about as loudness is heard."""

Wave = Float[NDArray[np.float32], "samples"]


def spectrum(sound: Wave) -> NDArray[np.complex64]:
    """[WINDOW / 2 + 1, frames]: windowed spectra of a sound, each frame HOP after the last."""
    padded = np.pad(sound, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.fft.rfft(frames * _hann(), axis=1).T.astype(np.complex64)


def sound_of(spectra: NDArray[np.complex64]) -> Wave:
    """The sound whose spectra these are, or the nearest one: windowed frames added up."""
    window = _hann()
    frames = np.fft.irfft(spectra.T, n=WINDOW, axis=1) * window
    length = WINDOW + HOP * (len(frames) - 1)
    total, weight = np.zeros(length), np.zeros(length)
    for number, frame in enumerate(frames):
        total[number * HOP : number * HOP + WINDOW] += frame
        weight[number * HOP : number * HOP + WINDOW] += window**2
    inside = slice(WINDOW // 2, length - WINDOW // 2)
    return (total[inside] / weight[inside]).astype(np.float32)


@lru_cache(maxsize=1)
def _hann() -> Float[NDArray[np.float64], window]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


def sounds(
    prediction: Float[NDArray, "1 f t"], target: Float[NDArray, "3 f t"]
) -> tuple[Wave, Wave]:
    """The clean sound, and the one of predicted magnitudes with the noisy phases.

    Args:
        prediction: magnitudes to the power of `POWER`.
        target: the clean ones, their phases, and the noisy phases.
    """
    clean, clean_phase, noisy_phase = (np.asarray(part, np.float64) for part in target)
    found = np.asarray(prediction[0], np.float64).clip(min=0)
    return (
        sound_of(clean ** (1 / POWER) * np.exp(1j * clean_phase)),
        sound_of(found ** (1 / POWER) * np.exp(1j * noisy_phase)),
    )


def si_sdr(reference: Wave, found: Wave) -> float:
    """Scale-invariant ratio of signal to distortion, in dB, within -100 and 100."""
    scale = float(found @ reference) / float(reference @ reference)
    rest = found - scale * reference
    signal, distortion = scale**2 * float(reference @ reference), float(rest @ rest)
    return float(10 * np.log10(np.clip(signal / max(distortion, 1e-30), 1e-10, 1e10)))
