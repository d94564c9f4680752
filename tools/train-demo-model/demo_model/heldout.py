"""Makes the held-out questions (1,000 of each kind) and the six bundled ones, from seeds that training never uses.

    python -m demo_model.heldout --to heldout --demo ../../apps/nchunk/assets/demo

Training draws its generators from `[phase seed, step]` with the phase seeds in train.py; these are `[HELDOUT_SEED, n]`
and `[DEMO_SEED, n]`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .clips import CLIP_KINDS, Clip, random_clip
from .questions import PICTURE_KINDS, ask_clip, ask_picture
from .world import background, random_picture, random_things, render

HELDOUT_SEED = 900_001
DEMO_SEED = 900_002
QUESTIONS_PER_KIND = 1_000
TILES_PER_ROW = 25
ROWS_PER_SHEET = 40
CLIPS_PER_SHEET = 250
# One bundled question per entry, in this order; the pictures are the first ones the seed gives.
DEMO_KINDS = ("colour", "count", "position", "is-there", "digit", "direction")


def _save_sheet(rows: list[np.ndarray], path: Path) -> None:
    Image.fromarray(np.concatenate(rows, 0)).save(path, optimize=True)


def _write_lines(path: Path, entries: list[dict]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def make_pictures(folder: Path) -> None:
    """Draws pictures until every kind has its questions; a picture gives at most one of each kind."""
    wanted = dict.fromkeys(PICTURE_KINDS, QUESTIONS_PER_KIND)
    tiles: list[np.ndarray] = []
    entries: list[dict] = []
    number = 0
    while any(wanted.values()):
        rng = np.random.default_rng([HELDOUT_SEED, 0, number])
        number += 1
        picture, things = random_picture(rng)
        found = [ask_picture(rng, things, kind) for kind in PICTURE_KINDS if wanted[kind]]
        found = [question for question in found if question is not None]
        for kind, question, answer in found:
            wanted[kind] -= 1
            entries.append({"kind": kind, "sheet": f"pictures-{len(tiles) // (TILES_PER_ROW * ROWS_PER_SHEET)}.png",
                            "tile": len(tiles) % (TILES_PER_ROW * ROWS_PER_SHEET), "question": question,
                            "answer": answer})
        if found:
            tiles.append(picture)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % TILES_PER_ROW)
    rows = [np.concatenate(tiles[i:i + TILES_PER_ROW], 1) for i in range(0, len(tiles), TILES_PER_ROW)]
    for sheet, start in enumerate(range(0, len(rows), ROWS_PER_SHEET)):
        _save_sheet(rows[start:start + ROWS_PER_SHEET], folder / f"pictures-{sheet}.png")
    _write_lines(folder / "pictures.jsonl", entries)


def measured_question(rng: np.random.Generator, clip: Clip) -> tuple[str, str, str]:
    """One of the clip's questions of its own kind."""
    own = [question for question in ask_clip(rng, clip) if question[0] == clip.kind]
    return own[rng.integers(len(own))]


def make_clips(folder: Path) -> None:
    entries = []
    for kind_number, kind in enumerate(CLIP_KINDS):
        rows = []
        for number in range(QUESTIONS_PER_KIND):
            rng = np.random.default_rng([HELDOUT_SEED, 1 + kind_number, number])
            clip = random_clip(rng, kind)
            _, question, answer = measured_question(rng, clip)
            entries.append({"kind": kind, "sheet": f"clips-{kind}-{number // CLIPS_PER_SHEET}.png",
                            "row": number % CLIPS_PER_SHEET, "question": question, "answer": answer})
            rows.append(np.concatenate(list(clip.frames), 1))
        for sheet, start in enumerate(range(0, len(rows), CLIPS_PER_SHEET)):
            _save_sheet(rows[start:start + CLIPS_PER_SHEET], folder / f"clips-{kind}-{sheet}.png")
    _write_lines(folder / "clips.jsonl", entries)


def make_demo(folder: Path) -> None:
    """Five pictures of three to five objects and one clip, taken by seed without asking any model."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, kind in enumerate(DEMO_KINDS):
        rng = np.random.default_rng([DEMO_SEED, number])
        entry: dict = {"id": f"{kind}-{number + 1}", "kind": kind}
        if kind in CLIP_KINDS:
            clip = random_clip(rng, kind)
            entry["frames"] = [f"clip-{frame + 1}.png" for frame in range(len(clip.frames))]
            for name, frame in zip(entry["frames"], clip.frames):
                Image.fromarray(frame).save(folder / name, optimize=True)
            _, entry["prompt"], entry["answer"] = measured_question(rng, clip)
        else:
            question = None
            while question is None:
                things = random_things(rng, int(rng.integers(3, 6)))
                question = ask_picture(rng, things, kind)
            entry["image"] = f"picture-{number + 1}.png"
            Image.fromarray(render(background(rng), things)).save(folder / entry["image"], optimize=True)
            _, entry["prompt"], entry["answer"] = question
        entries.append(entry)
    (folder / "questions.json").write_text(json.dumps(entries, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--demo", type=Path, default=None)
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    make_pictures(arguments.to)
    make_clips(arguments.to)
    if arguments.demo is not None:
        make_demo(arguments.demo)


if __name__ == "__main__":
    main()
