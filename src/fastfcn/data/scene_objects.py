"""The things of a scene: trees, crafts (boat or car), poles with wires, branches and birds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fastfcn.data.scene_canvas import Canvas, Shape, ellipse, polygon, stroke
from fastfcn.data.scene_landscape import BIRD, BRANCH, POLE, TREE
from fastfcn.data.scene_moods import Land, mix

_PAINTS = ((206, 62, 52), (238, 236, 228), (240, 186, 60), (48, 98, 168), (44, 146, 140), (232, 122, 54), (72, 78, 92))
_PLUMAGES = ((52, 50, 58), (242, 240, 236), (196, 82, 52), (64, 106, 168), (150, 120, 92))
Point = tuple[float, float]


def paint_tree(rng: np.random.Generator, canvas: Canvas, land: Land, *, x: float, y: float, height: float) -> None:
    """Paint a tree that stands at (x, y): a spruce of three tiers or a round crown."""
    colour = land.lit(np.asarray(land.mood.foliage, np.float32), rng.uniform(0.8, 1.2)) + rng.uniform(-12, 12, 3)
    trunk = land.lit((104, 78, 60), rng.uniform(0.8, 1.1))
    shadow = mix(land.mood.grass, (20, 30, 40), 0.5)
    canvas.paint([ellipse(x, y, 0.24 * height, 0.045 * height)], shadow, None, opacity=0.35)
    light = -1 if land.sun[0] < x else 1
    if rng.random() < 0.5:
        width = height * rng.uniform(0.2, 0.28)
        canvas.paint([polygon((x - 0.035 * height, y), (x + 0.035 * height, y), (x, y - height * 0.5))], trunk, TREE)
        for low, high, share in ((0.12, 0.55, 1.0), (0.34, 0.78, 0.76), (0.58, 1.0, 0.52)):
            left, right, tip = x - width * share, x + width * share, y - height * high
            foot = y - height * low
            tier = polygon((left, foot), (x, foot + 0.05 * height), (right, foot), (x, tip))
            canvas.paint([tier], colour * (0.86 + 0.2 * high), TREE)
            half = polygon((x, foot + 0.05 * height), (x + light * width * share, foot), (x, tip))
            canvas.paint([half], np.clip(colour * 1.25 + 10, 0, 255), None, opacity=0.5)
    else:
        canvas.paint(stroke([(x, y), (x, y - 0.5 * height)], 0.075 * height, 0.04 * height), trunk, TREE)
        lobes = rng.uniform((-0.17, 0.5, 0.14), (0.17, 0.78, 0.2), (6, 3)) * height
        lobes[0] = np.array((0.0, 0.66, 0.24)) * height
        canvas.paint([ellipse(x + dx, y - dy, r, r * 0.92) for dx, dy, r in lobes], colour, TREE)
        shine = [ellipse(x + dx + light * 0.3 * r, y - dy - 0.3 * r, r * 0.55, r * 0.5) for dx, dy, r in lobes]
        canvas.paint(shine, np.clip(colour * 1.22 + 10, 0, 255), None, opacity=0.55)


def paint_craft(
    rng: np.random.Generator, canvas: Canvas, land: Land, class_id: int, *, x: float, y: float, length: float
) -> None:
    """Paint a craft whose lowest point is at (x, y).

    It looks the same on water, where it is a boat with portholes, and on land, where it is a car with wheels: nothing
    here may depend on ``class_id``, so that only the surroundings tell the two apart.
    """
    paint = land.lit(_PAINTS[rng.integers(len(_PAINTS))], rng.uniform(0.85, 1.1))
    trim = land.lit(_PAINTS[rng.integers(len(_PAINTS))], rng.uniform(0.9, 1.1))
    ahead = 1 if rng.random() < 0.5 else -1
    height = length * rng.uniform(0.24, 0.3)

    def at(*corners: Point) -> Shape:
        """Return a polygon given along the craft (-0.5 stern to 0.5 bow) and up it (0 keel to 1 deck)."""
        return np.array([(x + ahead * u * length, y - v * height) for u, v in corners])

    canvas.paint([ellipse(x, y + 0.02 * length, 0.5 * length, 0.06 * length)], (20, 28, 40), None, opacity=0.3)
    cabin = at((-0.3, 0.9), (-0.24, 1.75), (0.1, 1.75), (0.24, 0.9))
    hull = at((-0.47, 1.0), (0.3, 0.95), (0.56, 1.2), (0.44, 0.35), (0.34, 0.02), (-0.38, 0.02), (-0.44, 0.25))
    canvas.paint([cabin], trim, class_id)
    canvas.paint([at((-0.25, 1.0), (-0.21, 1.6), (-0.09, 1.6), (-0.09, 1.0))], land.lit((176, 212, 230)), None)
    canvas.paint([at((-0.04, 1.0), (-0.04, 1.6), (0.07, 1.6), (0.17, 1.0))], land.lit((176, 212, 230)), None)
    canvas.paint([hull], paint, class_id)
    canvas.paint(
        [at((-0.465, 0.92), (0.3, 0.87), (0.55, 1.12), (0.52, 0.86), (0.3, 0.66), (-0.455, 0.7))],
        trim,
        None,
        opacity=0.8,
    )
    canvas.paint([at((0.36, 0.1), (0.32, 0.02), (-0.36, 0.02), (-0.4, 0.14))], paint * 0.6, None)
    discs = [ellipse(x + ahead * u * length, y - 0.24 * height, 0.08 * length, 0.08 * length) for u in (-0.22, 0.2)]
    hubs = [ellipse(x + ahead * u * length, y - 0.24 * height, 0.045 * length, 0.045 * length) for u in (-0.22, 0.2)]
    canvas.paint(discs, land.lit((46, 46, 54)), class_id)
    canvas.paint(hubs, land.lit((190, 190, 196)), None)


def paint_poles(rng: np.random.Generator, canvas: Canvas, land: Land, feet: list[Point]) -> list[Point]:
    """Paint poles with their feet from left to right, and wires between and beyond them; return seats on the wires."""
    colour = land.lit((104, 106, 116), rng.uniform(0.6, 1.1))
    wire_colour = land.lit((52, 50, 56), rng.uniform(0.7, 1.1))
    arms: list[list[Point]] = []
    shapes: list[Shape] = []
    for x, y in feet:
        near = 0.35 + 0.65 * land.nearness(y)
        top = y - 0.62 * near
        width = max(0.042 * near, 1.4 * canvas.pixel)
        shapes += stroke([(x, y), (x, top)], width, width * 0.75)
        reach = 0.065 * near
        shapes += stroke([(x - reach, top + 0.04 * near), (x + reach, top + 0.04 * near)], width * 0.7)
        arms.append([(x - reach, top + 0.03 * near), (x + reach, top + 0.03 * near)])
    perches: list[Point] = []
    wires: list[Shape] = []
    width = max(0.014, 1.05 * canvas.pixel)
    steps = np.linspace(0, 1, 14)
    ends = [[(x + far, y) for x, y in arm] for arm, far in ((arms[0], -1.1), (arms[-1], 1.1))]
    spans = [ends[0], *arms, ends[1]]
    for start, end in pairwise(spans):
        for (ax, ay), (bx, by) in zip(start, end, strict=True):
            sag = 0.13 * abs(bx - ax)
            line = np.stack((ax + (bx - ax) * steps, ay + (by - ay) * steps + sag * 4 * steps * (1 - steps)), axis=1)
            wires += stroke(line, width)
            perches += [(float(px), float(py)) for px, py in line[2:-2:3]]
    canvas.paint(wires, wire_colour, POLE)
    canvas.paint(shapes, colour, POLE)
    return perches


def _grow(
    rng: np.random.Generator, root: Point, angle: float, length: float, width: float, order: int, least: float
) -> list[Shape]:
    """Return a bough with its twigs as strokes, its own ones last.

    Args:
        rng: source of the bends.
        root: where it begins.
        angle: its direction in radians from the x axis, clockwise as seen.
        length: from root to tip.
        width: at the root.
        order: how many orders of twigs it bears.
        least: no stroke is thinner, so that the mask does not lose it.
    """
    points = [np.array(root)]
    shapes: list[Shape] = []
    steps = 5
    for step in range(steps):
        angle += rng.normal(0, 0.16)
        points.append(points[-1] + length / steps * np.array((np.cos(angle), np.sin(angle))))
        if order > 0 and step > 0:
            side = (1 if step % 2 else -1) * rng.uniform(0.45, 0.95)
            tip = (float(points[-1][0]), float(points[-1][1]))
            shapes += _grow(rng, tip, angle + side, length * rng.uniform(0.36, 0.56), width * 0.58, order - 1, least)
    return shapes + stroke(points, max(width, least), max(width * 0.45, least))


def paint_bare_tree(rng: np.random.Generator, canvas: Canvas, land: Land, *, x: float, y: float, height: float) -> None:
    """Paint a leafless tree that stands at (x, y), all of it branches."""
    shapes = _grow(rng, (x, y), -np.pi / 2, height, 0.08 * height, 2, 1.05 * canvas.pixel)
    canvas.paint(shapes, land.lit((96, 66, 48), rng.uniform(0.6, 1.1)), BRANCH)


def paint_branch(rng: np.random.Generator, canvas: Canvas, land: Land) -> list[Point]:
    """Paint a branch that reaches in from the left or right edge, close to the eye; return places for birds on it."""
    left = rng.random() < 0.5
    y, length = rng.uniform(0.08, 0.6), rng.uniform(0.5, 0.9)
    angle = rng.uniform(-0.35, 0.35) + (0 if left else np.pi)
    shapes = _grow(
        rng, (-0.03 if left else 1.03, y), angle, length, rng.uniform(0.04, 0.056), 2, max(0.014, 1.1 * canvas.pixel)
    )
    bough = shapes[-5:]
    canvas.paint(shapes, land.lit((104, 70, 48), rng.uniform(0.55, 1.1)), BRANCH)
    if rng.random() < 0.45:  # blossoms or last leaves at the tips of the twigs
        tips = [s[1] for s in shapes[4:-5:5]]
        colour = ((246, 190, 204), (250, 246, 240), (208, 118, 56), (120, 160, 80))[rng.integers(4)]
        canvas.paint([ellipse(x, y, 0.013, 0.011) for x, y in tips], land.lit(colour), BRANCH)
    return [(float(s[:, 0].mean()), float(s[:, 1].min())) for s in bough[1:]]


def paint_perched_bird(
    rng: np.random.Generator, canvas: Canvas, land: Land, *, x: float, y: float, size: float
) -> None:
    """Paint a bird that sits at (x, y); size is its length from beak to tail."""
    plumage = np.asarray(_PLUMAGES[rng.integers(len(_PLUMAGES))], np.float32)
    colour = land.lit(plumage, rng.uniform(0.85, 1.1))
    ahead = 1 if rng.random() < 0.5 else -1
    tilt = -0.5 * ahead
    body_x, body_y = x, y - 0.2 * size
    head_x, head_y = x + 0.24 * ahead * size, y - 0.46 * size
    tail = polygon(
        (x - 0.16 * ahead * size, y - 0.2 * size),
        (x - 0.62 * ahead * size, y + 0.16 * size),
        (x - 0.5 * ahead * size, y + 0.22 * size),
        (x - 0.08 * ahead * size, y - 0.06 * size),
    )
    beak = polygon(
        (head_x + 0.1 * ahead * size, head_y - 0.06 * size),
        (head_x + 0.36 * ahead * size, head_y + 0.03 * size),
        (head_x + 0.08 * ahead * size, head_y + 0.08 * size),
    )
    canvas.paint([beak], land.lit((236, 160, 52)), BIRD)
    canvas.paint(
        [
            ellipse(body_x, body_y, 0.34 * size, 0.22 * size, tilt=tilt),
            ellipse(head_x, head_y, 0.17 * size, 0.16 * size),
            tail,
        ],
        colour,
        BIRD,
    )
    canvas.paint(
        [ellipse(body_x + 0.12 * ahead * size, body_y + 0.02 * size, 0.16 * size, 0.12 * size, tilt=tilt)],
        mix(colour, (255, 240, 220), 0.55),
        None,
    )
    canvas.paint(
        [ellipse(head_x + 0.05 * ahead * size, head_y - 0.03 * size, 0.035 * size, 0.035 * size)], (15, 15, 20), None
    )


def paint_flying_birds(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Paint a loose flock in the upper part of the picture."""
    colour = land.lit(_PLUMAGES[rng.integers(2)], rng.uniform(0.85, 1.05))
    centre = rng.uniform((0.2, 0.08), (0.8, land.horizon * 0.9))
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(2, 6))):
        x, y = centre + rng.normal(0, (0.14, 0.06))
        span, lift = rng.uniform(0.06, 0.11), rng.uniform(0.3, 0.7)
        for side in (-1, 1):
            wing = [(x, y), (x + side * 0.45 * span, y - lift * span), (x + side * span, y - 0.3 * lift * span)]
            shapes += stroke(wing, max(0.3 * span, 1.5 * canvas.pixel), 1.0 * canvas.pixel)
        shapes.append(ellipse(x, y + 0.05 * span, 0.16 * span, 0.24 * span))
    canvas.paint(shapes, colour, BIRD)
