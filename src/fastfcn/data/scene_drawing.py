"""Drawing of one scene: a seed goes in, an image and its mask come out, always the same ones."""

from __future__ import annotations

import cv2
import numpy as np

from fastfcn.data.scene_canvas import PLAN_SIZE, Canvas
from fastfcn.data.scene_landscape import (
    BOAT,
    CAR,
    GRASS,
    ROAD,
    WATER,
    paint_ground,
    paint_mountains,
    paint_road,
    paint_sky,
)
from fastfcn.data.scene_moods import Land, choose_land
from fastfcn.data.scene_objects import (
    Point,
    paint_bare_tree,
    paint_branch,
    paint_craft,
    paint_flying_birds,
    paint_perched_bird,
    paint_poles,
    paint_tree,
)
from fastfcn.types import Int16Array, UInt8Array

#: Raise it with every change that alters a pixel, so that scenes cached before are drawn anew.
DRAWING_VERSION = 3

#: Class names in the order of the ids in ``scene_landscape``.
CLASS_NAMES = ("sky", "mountain", "water", "grass", "road", "tree", "boat", "car", "pole", "branch", "bird")


def draw_scene(seed: np.random.SeedSequence, *, size: int) -> tuple[UInt8Array, Int16Array]:
    """Draw a landscape.

    What is in it depends on the seed alone; the size, in pixels, only says how sharply it is seen.

    Returns:
        The image (size, size, 3), RGB, and the mask (size, size) of class ids, every pixel labelled.
    """
    # The camera has a stream of its own: it draws one number per pixel, and may not shift what else is drawn.
    content_seed, camera_seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(2)
    rng = np.random.default_rng(content_seed)
    canvas, land = Canvas(size), choose_land(rng)
    paint_sky(rng, canvas, land)
    if rng.random() < 0.75:
        paint_mountains(rng, canvas, land)
    paint_ground(rng, canvas, land)
    if rng.random() < 0.55:
        paint_road(rng, canvas, land)
    perches = _paint_things(rng, canvas, land)
    if rng.random() < 0.5:
        paint_flying_birds(rng, canvas, land)
    seats = [(x, y, rng.uniform(0.06, 0.1)) for x, y in perches]
    if rng.random() < 0.4:
        seats += [(x, y, rng.uniform(0.09, 0.16)) for x, y in paint_branch(rng, canvas, land)] * 2
    seats = [seat for seat in seats if 0.04 < seat[0] < 0.96]
    if seats:
        for number in rng.choice(len(seats), min(int(rng.integers(1, 4)), len(seats)), replace=False):
            x, y, length = seats[number]
            paint_perched_bird(rng, canvas, land, x=x, y=y, size=length)
    return _photograph(np.random.default_rng(camera_seed), canvas), canvas.mask


def _paint_things(rng: np.random.Generator, canvas: Canvas, land: Land) -> list[Point]:
    """Place trees, crafts and poles, and paint them from the farthest to the nearest; return seats on the wires."""
    things: list[tuple[float, float, str]] = []
    for kind, most, grounds in (
        ("tree", 5, (GRASS,)),
        ("bare", 1, (GRASS,)),
        ("boat", 2, (WATER,)),
        ("car", 2, (GRASS, ROAD)),
    ):
        for _ in range(int(rng.integers(0, most + 1))):
            taken = [(x, y) for y, x, _ in things] if kind in ("boat", "car") else []
            spot = _find_spot(rng, canvas, land, grounds, taken)
            if spot is not None:
                things.append((spot[1], spot[0], kind))
    for y, x, kind in sorted(things):
        reach = (0.25 + 0.75 * land.nearness(y)) * rng.uniform(0.75, 1.25)
        if kind == "tree":
            paint_tree(rng, canvas, land, x=x, y=y, height=0.42 * reach)
        elif kind == "bare":
            paint_bare_tree(rng, canvas, land, x=x, y=y, height=0.4 * reach)
        else:
            paint_craft(rng, canvas, land, BOAT if kind == "boat" else CAR, x=x, y=y, length=0.36 * reach)
    if rng.random() < 0.45:
        return []
    ends = [_find_spot(rng, canvas, land, (GRASS, ROAD), []) for _ in range(2)]
    feet = sorted(end for end in ends if end is not None)
    if not feet:
        return []
    # Two ends too close together would make one clump of poles: then a single pole has to do.
    number = int(rng.integers(2, 4)) if feet[-1][0] - feet[0][0] > 0.25 else 1
    row = np.linspace(feet[0], feet[-1], number)
    return paint_poles(rng, canvas, land, [(float(x), float(y)) for x, y in row])


def _find_spot(
    rng: np.random.Generator, canvas: Canvas, land: Land, grounds: tuple[int, ...], taken: list[Point]
) -> Point | None:
    """Return a random place that has the wanted ground to its left and right too and is not taken, or None."""
    for x, y in rng.uniform((0.04, land.horizon + 0.03), (0.96, 0.97), (12, 2)).tolist():
        row = canvas.plan[int(y * PLAN_SIZE)]
        reach = 0.05 + 0.12 * land.nearness(y)  # half a craft's length
        beside = [int(min(max(x + step, 0), 0.999) * PLAN_SIZE) for step in (-reach, 0, reach)]
        free = all(abs(x - other_x) > 0.16 or abs(y - other_y) > 0.14 for other_x, other_y in taken)
        if free and all(row[column] in grounds for column in beside):
            return x, y
    return None


def _photograph(rng: np.random.Generator, canvas: Canvas) -> UInt8Array:
    """Return the painting as a camera sees it: exposure, white balance, a trace of blur, noise."""
    image = canvas.image
    blur = rng.uniform(0.0, 0.0045) * canvas.size
    if blur > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.float32)
    gain = rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 6.0))
    return np.clip(image * gain.astype(np.float32) + noise + 0.5, 0, 255).astype(np.uint8)
