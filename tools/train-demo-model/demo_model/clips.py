"""Clips of eight 64x64 frames in which exactly one thing of one kind happens.

A clip shows one or two objects, never two in the same quadrant: the model pools the four patches of a quadrant of a
frame into one.
"""

from dataclasses import dataclass, replace

import numpy as np

from .world import (CELL_PX, COLOURS, DIGITS, GRID, SHAPES, Thing, background, quadrant_of, random_rgb, random_thing,
                    render)

FRAMES = 8
DIRECTIONS = ("left", "right", "up", "down")
CHANGES = ("colour", "name", "size", "vanish", "nothing")


@dataclass(frozen=True)
class Clip:
    """`frames` [8, 64, 64, 3] uint8, `cast` per frame the objects in it, `event` what the questions are about."""

    frames: np.ndarray
    cast: list[list[Thing]]
    kind: str
    event: dict


def _film(rng: np.random.Generator, cast: list[list[Thing]], kind: str, event: dict) -> Clip:
    ground = background(rng)
    frames: list[np.ndarray] = []
    for index, things in enumerate(cast):
        same = index > 0 and things == cast[index - 1]
        frames.append(frames[-1] if same else render(ground, things))
    return Clip(np.stack(frames), cast, kind, event)


def _two_things(rng: np.random.Generator) -> list[Thing]:
    """Two objects that differ in colour or name, in different quadrants."""
    while True:
        cells = rng.choice(GRID * GRID, 2, replace=False)
        first = random_thing(rng, int(cells[0]))
        second = random_thing(rng, int(cells[1]), first if rng.random() < 0.4 else None)
        if first.quadrant != second.quadrant and (first.name, first.colour) != (second.name, second.colour):
            return [first, second]


def direction_clip(rng: np.random.Generator) -> Clip:
    """One object crosses its row or column, a cell every two frames; half the time another rests far from its lane."""
    direction, lane = int(rng.integers(4)), int(rng.integers(GRID))
    horizontal = direction < 2
    lane_cells = [lane * GRID + i if horizontal else i * GRID + lane for i in range(GRID)]
    if direction in (0, 2):
        lane_cells.reverse()
    mover = random_thing(rng, lane_cells[0])
    others = []
    if rng.random() < 0.5:
        lane_quadrants = {quadrant_of(cell) for cell in lane_cells}
        free = [cell for cell in range(GRID * GRID) if quadrant_of(cell) not in lane_quadrants]
        other = random_thing(rng, int(rng.choice(free)))
        if (other.name, other.colour) != (mover.name, mover.colour):
            others = [other]
    cast = [[mover.in_cell(lane_cells[frame * GRID // FRAMES]), *others] for frame in range(FRAMES)]
    return _film(rng, cast, "direction", {"direction": DIRECTIONS[direction], "subject": mover, "others": others})


def order_clip(rng: np.random.Generator) -> Clip:
    """Two different objects appear one after the other and stay."""
    first, last = _two_things(rng)
    first_frame = int(rng.integers(0, 5))
    last_frame = int(rng.integers(first_frame + 1, FRAMES - 1))
    cast = [[first] * (frame >= first_frame) + [last] * (frame >= last_frame) for frame in range(FRAMES)]
    return _film(rng, cast, "order", {"first": first, "last": last})


def changed(rng: np.random.Generator, thing: Thing, change: str) -> Thing | None:
    """`thing` after `change`; None when it has vanished."""
    if change == "vanish":
        return None
    if change == "colour":
        colour = int((thing.colour + rng.integers(1, len(COLOURS))) % len(COLOURS))
        return replace(thing, colour=colour, rgb=random_rgb(rng, colour))
    if change == "size":
        return replace(thing, size=1 - thing.size)
    if change == "name":
        if thing.is_digit:
            digit = (thing.name - len(SHAPES) + rng.integers(1, len(DIGITS))) % len(DIGITS)
            return replace(thing, name=len(SHAPES) + int(digit))
        return replace(thing, name=int((thing.name + rng.integers(1, len(SHAPES))) % len(SHAPES)))
    return thing


def changed_clip(rng: np.random.Generator) -> Clip:
    """One of one or two objects changes colour, shape, digit or size, or vanishes, or nothing happens."""
    things = _two_things(rng)[:1 + int(rng.integers(2))]
    # A small object that grows must not leave its cell: one pixel off the middle at most.
    things = [replace(t, centre_x=t.centre_x - int(np.sign(t.centre_x % CELL_PX - CELL_PX // 2)) * (t.size == 0),
                      centre_y=t.centre_y - int(np.sign(t.centre_y % CELL_PX - CELL_PX // 2)) * (t.size == 0))
              for t in things]
    change = str(rng.choice(CHANGES, p=(0.25, 0.25, 0.2, 0.2, 0.1)))
    subject = int(rng.integers(len(things)))
    after = changed(rng, things[subject], change)
    later = [after if i == subject else t for i, t in enumerate(things)]
    later = [t for t in later if t is not None]
    moment = int(rng.integers(2, FRAMES - 1))
    cast = [things if frame < moment else later for frame in range(FRAMES)]
    event = {"change": change, "subject": things[subject], "after": after, "things": things}
    return _film(rng, cast, "changed", event)


MAKERS = {"direction": direction_clip, "order": order_clip, "changed": changed_clip}
CLIP_KINDS = tuple(MAKERS)


def random_clip(rng: np.random.Generator, kind: str | None = None) -> Clip:
    return MAKERS[kind if kind is not None else CLIP_KINDS[rng.integers(len(CLIP_KINDS))]](rng)
