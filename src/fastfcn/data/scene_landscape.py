"""The stuff of a scene: sky, mountains, water, grass and road, in the light of one mood."""

from __future__ import annotations

import cv2
import numpy as np

from fastfcn.data.scene_canvas import Canvas, Floats, Shape, ellipse, fractal_noise, polygon, wavy
from fastfcn.data.scene_moods import Land, mix

SKY, MOUNTAIN, WATER, GRASS, ROAD, TREE, BOAT, CAR, POLE, BRANCH, BIRD = range(11)

#: How water and grass share the ground, and how often they do it so.
LAYOUTS = {"lake": 0.25, "meadow": 0.2, "coast": 0.25, "river": 0.14, "plain": 0.1, "sea": 0.06}


def paint_sky(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Fill the canvas with sky: a gradient, the sun and its halo, clouds."""
    canvas.mask[:] = SKY
    height = np.clip(canvas.ys / land.horizon, 0, 1)[..., None] ** 1.3
    canvas.image[:] = (
        np.asarray(land.mood.sky_top, np.float32) * (1 - height) + np.asarray(land.mood.sky_low, np.float32) * height
    )
    x, y = land.sun
    distance = np.hypot(canvas.xs - x, canvas.ys - y)
    glow = mix(land.mood.sky_low, (255, 250, 225), 0.75)
    canvas.blend(0.7 * np.exp(-distance / 0.16), glow)
    if rng.random() < 0.6:
        canvas.paint([ellipse(x, y, 0.045, 0.045)], mix(glow, (255, 253, 240), 0.8), None, opacity=0.95)
    noise = fractal_noise(rng, canvas.size, octaves=(6, 12, 24, 48), stretch=2)
    cover = rng.uniform(0.2, 1.6)
    clouds = np.clip((noise - cover) * 1.1, 0, 1) * np.clip(1.15 - canvas.ys / land.horizon, 0, 1)
    canvas.blend(0.85 * clouds, mix(land.mood.sky_low, (255, 255, 255), 0.45))


def paint_mountains(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Paint one to three ridges, the farther ones paler, some with snow on their heights."""
    layers = int(rng.integers(1, 4))
    texture = fractal_noise(rng, canvas.size, octaves=(8, 16, 32, 64))
    snowy = rng.random() < 0.5
    positions = np.linspace(-0.05, 1.05, 66)
    for layer in range(layers):
        far = 1 - (layer + 1) / layers
        height = rng.uniform(0.12, 0.3) * (0.65 + 0.6 * far)
        ridge = (
            0.55 + wavy(rng, positions, 0.5) + 0.10 * np.abs(wavy(rng, positions * 3, 1.0)) + rng.normal(0, 0.025, 66)
        )
        tops = land.horizon - height * np.clip(ridge, 0.02, None)
        shape = np.stack((positions, tops), axis=1)
        shape = np.concatenate((shape, polygon((1.05, land.horizon + 0.02), (-0.05, land.horizon + 0.02))))
        colour = mix(land.mood.mountain, land.mood.sky_low, 0.15 + 0.5 * far)
        shaded = colour * (1 + 0.07 * texture[..., None])
        # Slopes that face the sun are lit. They run down askew, so that they look like spurs and not like curtains.
        slope = np.convolve(np.diff(tops), np.hanning(9) / 4, mode="same") * (1 if land.sun[0] < 0.5 else -1)
        lean = canvas.xs + 0.9 * (canvas.ys - land.horizon) + 0.015 * texture
        shaded = shaded * (1 - np.clip(14 * np.interp(lean, positions[:-1], slope), -0.13, 0.13)[..., None])
        if snowy:
            crest = np.interp(canvas.xs[0], positions, tops)[None, :]
            line = land.horizon - height * 0.72 + 0.012 * texture
            snow = np.clip((line - canvas.ys) * 60, 0, 1) * (crest < line)
            shaded = shaded + 0.75 * snow[..., None] * (mix(colour, (252, 252, 255), 0.85) - shaded)
        canvas.paint([shape], shaded, MOUNTAIN)


def paint_ground(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Paint water and grass below the horizon in one of six layouts, with the sparse marks that tell them apart."""
    positions = np.linspace(-0.05, 1.05, 56)
    below = polygon((-0.05, land.horizon), (1.05, land.horizon), (1.05, 1.05), (-0.05, 1.05))
    water, grass = _water_colour(rng, canvas, land), _grass_colour(rng, canvas, land)
    layout = rng.choice(list(LAYOUTS), p=list(LAYOUTS.values()))
    first, second = (
        ((water, WATER), (grass, GRASS)) if layout in ("lake", "coast", "sea") else ((grass, GRASS), (water, WATER))
    )
    canvas.lay([below], *first)
    region: Shape | None = None
    if layout in ("lake", "meadow"):  # a shore across the picture: behind it the first, before it the second
        shore = land.horizon + (1 - land.horizon) * rng.uniform(0.3, 0.65)
        tilt = rng.uniform(-0.12, 0.12) * (positions - 0.5)
        line = np.stack((positions, shore + tilt + wavy(rng, positions, 0.035)), axis=1)
        region = np.concatenate((line, polygon((1.05, 1.05), (-0.05, 1.05))))
    elif layout in ("coast", "river"):  # a shore that runs into the depth, or two of them
        depth = np.linspace(0, 1, 40)
        ys = land.horizon + 0.65 * depth**1.4
        middle = rng.uniform(0.35, 0.65) + rng.uniform(-0.3, 0.3) * depth + wavy(rng, depth * 1.5, 0.13) * depth
        if layout == "river":
            half = 0.02 + rng.uniform(0.22, 0.34) * depth
            right, left = np.stack((middle + half, ys), axis=1), np.stack((middle - half, ys), axis=1)
            region = np.concatenate((right, left[::-1]))
        else:
            side = -0.05 if rng.random() < 0.5 else 1.05
            region = np.concatenate((np.stack((middle, ys), axis=1), polygon((side, 1.05), (side, land.horizon))))
    if region is not None:
        canvas.lay([region], *second)
    _paint_marks(rng, canvas, land)


def _ground_plane(rng: np.random.Generator, canvas: Canvas, land: Land, *, across: float, along: float) -> Floats:
    """Return (H, W) noise that lies on the ground: finer and flatter towards the horizon, as perspective has it."""
    grid = rng.standard_normal((64, 64), dtype=np.float32)
    depth = 1 / (0.16 + np.clip(canvas.ys - land.horizon, 0, 1))
    map_x = ((canvas.xs - 0.5) * depth * across + 32).astype(np.float32)
    map_y = np.broadcast_to(depth * along, map_x.shape).astype(np.float32)
    noise = cv2.remap(grid, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(noise, np.float32)


def _water_colour(rng: np.random.Generator, canvas: Canvas, land: Land) -> Floats:
    """Return (H, W, 3) water: its own colour, ripples, and the mirrored scene above the horizon."""
    row = round(land.horizon * canvas.size)
    mirrored = canvas.image.copy()
    source = np.clip(2 * row - 1 - np.arange(row, canvas.size), 0, None)
    mirrored[row:] = canvas.image[source]
    mirrored = np.asarray(cv2.blur(mirrored, (1, max(canvas.size // 24, 1))), np.float32)
    depth = np.clip((canvas.ys - land.horizon) / (1 - land.horizon), 0, 1)[..., None]
    own = np.asarray(land.mood.water, np.float32) * (1.06 - 0.22 * depth)
    ripples = _ground_plane(rng, canvas, land, across=1.2, along=9.0)[..., None]
    share = rng.uniform(0.25, 0.6)
    return np.asarray(own * (1 - share) + mirrored * share + 6.0 * ripples, np.float32)


def _grass_colour(rng: np.random.Generator, canvas: Canvas, land: Land) -> Floats:
    """Return (H, W, 3) grass: paler in the distance, with patches and blades."""
    depth = np.clip((canvas.ys - land.horizon) / (1 - land.horizon), 0, 1)[..., None]
    own = mix(land.mood.grass, land.mood.sky_low, 0.3) * (1 - depth) + np.asarray(land.mood.grass, np.float32) * depth
    patches = _ground_plane(rng, canvas, land, across=1.5, along=3.0)[..., None]
    blades = fractal_noise(rng, canvas.size, octaves=(64, 128))[..., None]
    return np.asarray(own * (1 + 0.05 * patches + 0.035 * blades), np.float32)


def _paint_marks(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Scatter glints on the water, tufts and flowers on the grass: decorations, the mask stays."""
    places = rng.uniform((0, land.horizon + 0.02), (1, 1), (90, 2))
    scale = 0.25 + np.array([land.nearness(y) for y in places[:, 1]])
    glints = [
        polygon(
            (x - 0.03 * k, y - 0.003 * k),
            (x + 0.03 * k, y - 0.003 * k),
            (x + 0.02 * k, y + 0.003 * k),
            (x - 0.02 * k, y + 0.003 * k),
        )
        for (x, y), k in zip(places[:30], scale[:30], strict=True)
    ]
    canvas.paint(glints, mix(land.mood.sky_low, (255, 255, 255), 0.5), None, opacity=0.5, within=WATER)
    tufts = [
        polygon((x - 0.008 * k, y), (x + lean * k, y - 0.03 * k), (x + 0.008 * k, y))
        for (x, y), k, lean in zip(places[30:66], scale[30:66], rng.uniform(-0.012, 0.012, 36), strict=True)
    ]
    canvas.paint(tufts, np.asarray(land.mood.grass) * rng.choice((0.78, 1.15)), None, opacity=0.7, within=GRASS)
    if rng.random() < 0.5:
        flowers = [
            ellipse(x, y, 0.006 * k + 0.002, 0.005 * k + 0.002)
            for (x, y), k in zip(places[66:], scale[66:], strict=True)
        ]
        blossom = ((250, 235, 120), (245, 245, 245), (235, 130, 150), (170, 130, 220))[rng.integers(4)]
        canvas.paint(flowers, land.lit(blossom), None, opacity=0.9, within=GRASS)


def paint_road(rng: np.random.Generator, canvas: Canvas, land: Land) -> None:
    """Lay a road over the grass, across the picture or into its depth; water is left as it is."""
    depth = np.linspace(0, 1, 40)
    if rng.random() < 0.5:
        xs = np.linspace(-0.05, 1.05, 40)
        ys = (
            land.horizon
            + (1 - land.horizon) * rng.uniform(0.3, 0.85)
            + wavy(rng, xs, 0.05)
            + rng.uniform(-0.2, 0.2) * (xs - 0.5)
        )
        half = (0.012 + 0.09 * np.clip(ys - land.horizon, 0.05, 1))[:, None] * np.array((0.0, 1.0))
    else:
        ys = land.horizon + 0.65 * depth**1.4
        xs = rng.uniform(0.15, 0.85) + rng.uniform(-0.35, 0.35) * depth + wavy(rng, depth * 1.5, 0.12) * depth
        half = (0.008 + rng.uniform(0.08, 0.15) * depth)[:, None] * np.array((1.0, 0.0))
    middle = np.stack((xs, ys), axis=1)
    base = mix((128, 122, 120), land.mood.water, rng.uniform(0, 0.4)) * np.asarray(land.mood.light, np.float32)
    grain = fractal_noise(rng, canvas.size, octaves=(32, 64))[..., None]
    canvas.lay([np.concatenate((middle - half, (middle + half)[::-1]))], base * (1 + 0.04 * grain), ROAD, within=GRASS)
    dashes = [
        np.concatenate((middle[i : i + 2] - half[i : i + 2] * 0.07, (middle[i : i + 2] + half[i : i + 2] * 0.07)[::-1]))
        for i in range(0, 39, 2)
    ]
    canvas.paint(dashes, land.lit((245, 240, 220)), None, opacity=0.8, within=ROAD)
