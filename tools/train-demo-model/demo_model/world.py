"""The picture world: coloured shapes and digits on a 4x4 grid of cells, drawn into 64x64 RGB arrays.

A cell is 16x16 pixels: exactly one patch of the vision tower, so that every object lies within one patch.

Everything is drawn from a `numpy.random.Generator`, so a seed fixes every pixel.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

SIDE_PX = 64
GRID = 4
CELL_PX = SIDE_PX // GRID
MAX_OBJECTS = 5

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
DIGITS = tuple("0123456789")
NAMES = SHAPES + DIGITS
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SIZES = ("small", "large")
PLACES = ("top left", "top right", "bottom left", "bottom right")

# Far enough apart that the jitter below never makes two colours meet.
COLOUR_RGB = ((222, 40, 44), (44, 172, 66), (52, 88, 228), (242, 216, 44), (156, 56, 196), (246, 136, 28))
COLOUR_JITTER = 12
EXTENT_PX = (10, 14)
# How far each size can move without leaving its cell (the small one keeps a pixel to spare).
CENTRE_JITTER_PX = (2, 1)
SUPERSAMPLE = 8

# 5x7 bitmaps, one string of rows per digit.
DIGIT_BITMAPS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)


@dataclass(frozen=True)
class Thing:
    """One object. `name`, `colour` and `size` index NAMES, COLOURS and SIZES; the centre is in pixels."""

    name: int
    colour: int
    size: int
    centre_x: int
    centre_y: int
    rgb: tuple[int, int, int]

    @property
    def is_digit(self) -> bool:
        return self.name >= len(SHAPES)

    @property
    def extent_px(self) -> int:
        return EXTENT_PX[self.size]

    @property
    def cell(self) -> int:
        return self.centre_y // CELL_PX * GRID + self.centre_x // CELL_PX

    @property
    def quadrant(self) -> int:
        """Indexes PLACES."""
        return quadrant_of(self.cell)

    def in_cell(self, cell: int) -> "Thing":
        """The same object, as far off the middle, in another cell."""
        return replace(self, centre_x=cell % GRID * CELL_PX + self.centre_x % CELL_PX,
                       centre_y=cell // GRID * CELL_PX + self.centre_y % CELL_PX)


def quadrant_of(cell: int) -> int:
    half = GRID // 2
    return cell // GRID // half * 2 + cell % GRID // half


def _polygon(points: list[tuple[float, float]], side: int) -> Image.Image:
    image = Image.new("L", (side, side), 0)
    ImageDraw.Draw(image).polygon([(x * (side - 1), y * (side - 1)) for x, y in points], fill=255)
    return image


def _star_points() -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 0.52, 0.21)
    return [(0.5 + r * np.cos(a), 0.53 + r * np.sin(a)) for a, r in zip(angles, radii)]


def _shape_image(name: str, side: int) -> Image.Image:
    if name == "circle":
        image = Image.new("L", (side, side), 0)
        ImageDraw.Draw(image).ellipse((0, 0, side - 1, side - 1), fill=255)
        return image
    polygons = {
        "square": [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],
        "triangle": [(0.5, 0.03), (1.0, 0.95), (0.0, 0.95)],
        "diamond": [(0.5, 0.0), (0.92, 0.5), (0.5, 1.0), (0.08, 0.5)],
        "star": _star_points(),
        "cross": [(0.34, 0), (0.66, 0), (0.66, 0.34), (1, 0.34), (1, 0.66), (0.66, 0.66),
                  (0.66, 1), (0.34, 1), (0.34, 0.66), (0, 0.66), (0, 0.34), (0.34, 0.34)],
    }
    return _polygon(polygons[name], side)


@lru_cache(maxsize=None)
def alpha_mask(name: int, extent_px: int) -> np.ndarray:
    """Coverage of one object, [extent_px, extent_px] in 0..1."""
    if name < len(SHAPES):
        image = _shape_image(SHAPES[name], extent_px * SUPERSAMPLE).resize((extent_px, extent_px), Image.BOX)
        return np.asarray(image, np.float32) / 255
    rows = DIGIT_BITMAPS[name - len(SHAPES)].split()
    bitmap = Image.fromarray(np.array([[int(c) * 255 for c in row] for row in rows], np.uint8))
    width = round(extent_px * 5 / 7)
    glyph = bitmap.resize((width * SUPERSAMPLE, extent_px * SUPERSAMPLE), Image.NEAREST)
    mask = np.zeros((extent_px, extent_px), np.float32)
    left = (extent_px - width) // 2
    mask[:, left:left + width] = np.asarray(glyph.resize((width, extent_px), Image.BOX), np.float32) / 255
    return mask


def background(rng: np.random.Generator) -> np.ndarray:
    """Dark or light ground with a slight tint and a coarse grain, [64, 64, 3] float32.

    The grain has three levels on 2x2 blocks: enough to be no flat colour, and it compresses well.
    """
    low, high = ((16, 62), (196, 238))[rng.integers(2)]
    ground = rng.integers(low, high) + rng.integers(-6, 7, 3)
    grain = rng.integers(-1, 2, (SIDE_PX // 2, SIDE_PX // 2)) * rng.integers(0, 9)
    grain = np.kron(grain, np.ones((2, 2)))
    return np.clip(ground[None, None, :] + grain[:, :, None], 0, 255).astype(np.float32)


def render(ground: np.ndarray, things: list[Thing]) -> np.ndarray:
    """Draws `things` over `ground`, [64, 64, 3] uint8."""
    canvas = ground.copy()
    for thing in things:
        mask = alpha_mask(thing.name, thing.extent_px)
        left = thing.centre_x - thing.extent_px // 2
        top = thing.centre_y - thing.extent_px // 2
        window = canvas[top:top + thing.extent_px, left:left + thing.extent_px]
        window += (np.array(thing.rgb, np.float32) - window) * mask[:, :, None]
    return canvas.round().astype(np.uint8)


def random_rgb(rng: np.random.Generator, colour: int) -> tuple[int, int, int]:
    jitter = rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
    return tuple(int(c) for c in np.clip(np.array(COLOUR_RGB[colour]) + jitter, 0, 255))


def random_name(rng: np.random.Generator) -> int:
    if rng.random() < 0.6:
        return int(rng.integers(len(SHAPES)))
    return len(SHAPES) + int(rng.integers(len(DIGITS)))


def random_thing(rng: np.random.Generator, cell: int, like: Thing | None = None) -> Thing:
    """An object in `cell`; with `like` it shares the name or the colour of that one, so that counts exceed one."""
    name, colour = random_name(rng), int(rng.integers(len(COLOURS)))
    if like is not None:
        if rng.random() < 0.5:
            name = like.name
        else:
            colour = like.colour
    size = int(rng.integers(2))
    jitter = rng.integers(-CENTRE_JITTER_PX[size], CENTRE_JITTER_PX[size] + 1, 2)
    return Thing(name, colour, size, cell % GRID * CELL_PX + CELL_PX // 2 + int(jitter[0]),
                 cell // GRID * CELL_PX + CELL_PX // 2 + int(jitter[1]), random_rgb(rng, colour))


def random_things(rng: np.random.Generator, count: int | None = None) -> list[Thing]:
    """1 to 5 objects in distinct cells, in reading order."""
    count = int(rng.integers(1, MAX_OBJECTS + 1)) if count is None else count
    things: list[Thing] = []
    for cell in sorted(rng.choice(GRID * GRID, count, replace=False)):
        like = things[rng.integers(len(things))] if things and rng.random() < 0.4 else None
        things.append(random_thing(rng, int(cell), like))
    return things


def random_picture(rng: np.random.Generator, count: int | None = None) -> tuple[np.ndarray, list[Thing]]:
    things = random_things(rng, count)
    return render(background(rng), things), things
