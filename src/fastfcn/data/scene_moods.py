"""The light of a scene: the colours of its time of day or year, and where horizon and sun stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastfcn.data.scene_canvas import Colour, Floats


class Mood(NamedTuple):
    """Colours (RGB, 0 to 255) of a time of day or year; light (0 to 1) multiplies the colours of all objects."""

    sky_top: Colour
    sky_low: Colour
    water: Colour
    grass: Colour
    mountain: Colour
    foliage: Colour
    light: Colour


MOODS = (
    Mood((88, 158, 224), (208, 232, 244), (74, 148, 190), (132, 182, 88), (116, 138, 164), (62, 124, 70), (1, 1, 1)),
    Mood(
        (146, 172, 222),
        (255, 214, 178),
        (196, 184, 200),
        (158, 170, 108),
        (152, 132, 160),
        (96, 122, 86),
        (1, 0.93, 0.88),
    ),
    Mood(
        (74, 62, 126), (250, 152, 108), (150, 104, 128), (112, 104, 92), (98, 76, 122), (62, 70, 72), (0.82, 0.68, 0.68)
    ),
    Mood(
        (176, 188, 198),
        (224, 228, 230),
        (186, 198, 204),
        (156, 170, 146),
        (162, 174, 184),
        (104, 126, 112),
        (0.9, 0.93, 0.95),
    ),
    Mood(
        (128, 180, 214),
        (244, 236, 214),
        (112, 152, 166),
        (200, 166, 88),
        (152, 136, 126),
        (202, 104, 46),
        (1, 0.96, 0.88),
    ),
    Mood(
        (156, 188, 222),
        (238, 236, 240),
        (172, 198, 220),
        (230, 235, 240),
        (168, 184, 206),
        (78, 110, 104),
        (0.95, 0.97, 1),
    ),
    Mood((22, 30, 66), (72, 92, 134), (40, 58, 100), (48, 72, 74), (44, 54, 88), (26, 48, 54), (0.5, 0.56, 0.72)),
)


@dataclass(frozen=True)
class Land:
    """What the objects need to know of the landscape they stand in.

    Attributes:
        mood: the colours, jittered.
        horizon: height of the horizon as a fraction of the side.
        sun: (x, y) of the sun or moon.
    """

    mood: Mood
    horizon: float
    sun: tuple[float, float]

    def nearness(self, y: float) -> float:
        """Return 0 for a thing that stands at the horizon, 1 for one at the lower edge."""
        return float(np.clip((y - self.horizon) / (1 - self.horizon), 0, 1))

    def lit(self, colour: Colour, gain: float = 1.0) -> Floats:
        """Return an object's colour in the mood's light, made brighter or darker by a gain."""
        lit = np.asarray(colour, np.float32) * np.asarray(self.mood.light, np.float32) * gain
        return np.asarray(np.clip(lit, 0, 255), np.float32)


def mix(a: Colour, b: Colour, share: float) -> Floats:
    """Return the colour between a (share 0) and b (share 1)."""
    return np.asarray(a, np.float32) * (1 - share) + np.asarray(b, np.float32) * share


def choose_land(rng: np.random.Generator) -> Land:
    """Choose mood and horizon. Some moods bring water close to the sky's colour, or grass close to the water's."""
    mood = MOODS[rng.choice(len(MOODS), p=(0.24, 0.15, 0.13, 0.14, 0.14, 0.11, 0.09))]
    base = np.asarray(mood[:6], np.float32)
    jittered = np.clip(base * rng.uniform(0.92, 1.08, (6, 1)) + rng.uniform(-9, 9, (6, 3)), 0, 255)
    top, low, water, grass, mountain, foliage = jittered
    water = mix(water, mix(low, top, rng.uniform(0.1, 0.7)), rng.uniform(0, 0.8))
    grass = mix(grass, water, rng.uniform(0.25, 0.6) if rng.random() < 0.35 else 0.0)
    mountain = mix(mountain, grass, rng.uniform(0, 0.6))
    horizon = rng.uniform(0.36, 0.54)
    sun = (rng.uniform(0.1, 0.9), rng.uniform(0.06, horizon - 0.06))
    return Land(Mood(top, low, water, grass, mountain, foliage, mood.light), horizon, sun)
