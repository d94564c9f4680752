"""Packs one picture or clip and many independent questions about it into one training sequence.

Every question sees the picture (or clip), itself, and the caption only if it is asked as a second turn; its positions
continue from what it sees. So each is trained exactly as it will be asked.
"""

from dataclasses import dataclass

import numpy as np
import torch

from . import clips, questions, world
from .model import FRAME_TOKENS, IMAGE_TOKENS
from .tokenizer import IMAGE, VIDEO

IGNORE = -100
SHARED, CAPTION, PADDING = 0, 1, -1
PICTURE_TEXT_TOKENS = 168
CLIP_TEXT_TOKENS = 72
CAPTION_SHARE = 0.5
SEES_CAPTION_SHARE = 0.4
WORDS_PER_OBJECT = 7
# Up to more than the pictures of the questions hold (more to learn from in each), and down to none: a tower that has
# seen crowded pictures only finds objects in the empty cells of the others.
PATCH_PHASE_MAX_OBJECTS = 12


@dataclass
class Batch:
    """`ids`, `labels`, `positions` [B, L]; `mask` [B, 1, L, L], true where attention is allowed.

    `pictures` [N, 64, 64, 3] are all distinct pictures and frames, `words` [N, 16, W] the tokens that name the object
    in each of their cells, -1 where there is none.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    pictures: torch.Tensor
    words: torch.Tensor
    frame_index: torch.Tensor | None
    question_count: int


class Packer:
    def __init__(self, tokenizer):
        self._encode_uncached = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self._cache: dict[str, list[int]] = {}
        self.visual_ids = {
            "picture": self.encode("<|im_start|>user ") + [tokenizer.convert_tokens_to_ids(IMAGE)] * IMAGE_TOKENS,
            "clip": self.encode("<|im_start|>user ")
            + [tokenizer.convert_tokens_to_ids(VIDEO)] * (clips.FRAMES * FRAME_TOKENS + 1),
        }
        self.visual_offset = len(self.encode("<|im_start|>user "))

    def encode(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._encode_uncached(text)
        return self._cache[text]

    def words(self, things: list[world.Thing]) -> np.ndarray:
        """[16, WORDS_PER_OBJECT]: colour, name, size and place of the object in each cell, as they stand after a space
        and, for what can be an answer, at its start."""
        found = np.full((world.GRID * world.GRID, WORDS_PER_OBJECT), -1, np.int64)
        for thing in things:
            colour, name = world.COLOURS[thing.colour], world.NAMES[thing.name]
            texts = [colour, f" {colour}", f" {world.SIZES[thing.size]} {world.PLACES[thing.quadrant]}", name]
            texts += [] if thing.is_digit else [f" {name}"]
            tokens = [token for text in texts for token in self.encode(text)]
            found[thing.cell, :len(tokens)] = tokens
        return found

    def _turn(self, question: str, answer: str, second: bool) -> tuple[list[int], list[int]]:
        opening = f"{'<|im_start|>user ' if second else ''}\n{question}<|im_end|><|im_start|>assistant\n"
        asked, answered = self.encode(opening), self._encode_uncached(f"{answer}<|im_end|>")
        return asked + answered, [IGNORE] * len(asked) + answered

    def sequence(self, rng, visual: str, caption: tuple[str, str] | None, asked: list, text_tokens: int) -> dict:
        """One sequence; questions that no longer fit are left out."""
        prefix = self.visual_ids[visual]
        length = len(prefix) + text_tokens
        ids, labels = np.zeros(length, np.int64), np.full(length, IGNORE, np.int64)
        positions, segment = np.zeros(length, np.int64), np.full(length, PADDING, np.int64)
        sees_caption = np.zeros(length, bool)
        at = len(prefix)
        ids[:at], positions[:at], segment[:at] = prefix, np.arange(at), SHARED
        caption_end = at

        def place(turn, first_position, segment_id, sees):
            nonlocal at
            tokens, targets = turn
            end = at + len(tokens)
            ids[at:end], labels[at:end], segment[at:end] = tokens, targets, segment_id
            positions[at:end] = first_position + np.arange(len(tokens))
            sees_caption[at:end] = sees
            at = end

        if caption is not None:
            place(self._turn(*caption, second=False), at, CAPTION, True)
            caption_end = at
        count = 0
        for _, question, answer in asked:
            second = caption is not None and rng.random() < SEES_CAPTION_SHARE
            turn = self._turn(question, answer, second)
            if at + len(turn[0]) > length:
                break
            place(turn, caption_end if second else len(prefix), CAPTION + 1 + count, second)
            count += 1
        return {"ids": ids, "labels": labels, "positions": positions, "segment": segment, "sees": sees_caption,
                "count": count}


def _mask(segment: np.ndarray, sees: np.ndarray) -> torch.Tensor:
    rows, columns = segment[:, :, None], segment[:, None, :]
    allowed = (columns == SHARED) | (rows == columns) | ((columns == CAPTION) & sees[:, :, None])
    allowed &= np.tri(segment.shape[1], dtype=bool)[None]
    return torch.from_numpy(allowed)[:, None]


def _collate(rows: list[dict], pictures: list[np.ndarray], words: list[np.ndarray],
             frame_index: list[list[int]] | None) -> Batch:
    stack = {key: np.stack([row[key] for row in rows]) for key in ("ids", "labels", "positions", "segment", "sees")}
    return Batch(
        *(torch.from_numpy(stack[key]) for key in ("ids", "labels", "positions")),
        _mask(stack["segment"], stack["sees"]), torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack(words)), None if frame_index is None else torch.tensor(frame_index),
        sum(row["count"] for row in rows))


def picture_batch(rng: np.random.Generator, packer: Packer, size: int) -> Batch:
    rows, pictures, words = [], [], []
    for _ in range(size):
        picture, things = world.random_picture(rng)
        captioned = rng.random() < CAPTION_SHARE
        caption = (questions.DESCRIBE_PICTURE, questions.caption(things)) if captioned else None
        kinds = [questions.PICTURE_KINDS[i] for _ in range(3) for i in rng.permutation(len(questions.PICTURE_KINDS))]
        asked = [questions.ask_picture(rng, things, kind) for kind in kinds]
        asked = list({q[1]: q for q in asked if q is not None}.values())
        rows.append(packer.sequence(rng, "picture", caption, asked, PICTURE_TEXT_TOKENS))
        pictures.append(picture)
        words.append(packer.words(things))
    return _collate(rows, pictures, words, None)


def clip_batch(rng: np.random.Generator, packer: Packer, size: int) -> Batch:
    rows, pictures, words, frame_index = [], [], [], []
    for _ in range(size):
        clip = clips.random_clip(rng)
        captioned = rng.random() < CAPTION_SHARE
        caption = (questions.DESCRIBE_CLIP, questions.clip_caption(clip)) if captioned else None
        asked = questions.ask_clip(rng, clip)
        rows.append(packer.sequence(rng, "clip", caption, [asked[i] for i in rng.permutation(len(asked))],
                                    CLIP_TEXT_TOKENS))
        index = []
        for number, frame in enumerate(clip.frames):
            if number == 0 or not np.array_equal(frame, clip.frames[number - 1]):
                pictures.append(frame)
                words.append(packer.words(clip.cast[number]))
            index.append(len(pictures) - 1)
        frame_index.append(index)
    return _collate(rows, pictures, words, frame_index)


@dataclass
class PatchBatch:
    """Pictures and, for every patch (a cell each), the object in it: class indices with the last one for "none"."""

    pictures: torch.Tensor
    name: torch.Tensor
    colour: torch.Tensor
    size: torch.Tensor


def patch_batch(rng: np.random.Generator, size: int) -> PatchBatch:
    cells = world.GRID * world.GRID
    pictures = []
    name = np.full((size, cells), len(world.NAMES), np.int64)
    colour = np.full((size, cells), len(world.COLOURS), np.int64)
    extent = np.full((size, cells), len(world.SIZES), np.int64)
    for row in range(size):
        picture, things = world.random_picture(rng, int(rng.integers(PATCH_PHASE_MAX_OBJECTS + 1)))
        pictures.append(picture)
        for thing in things:
            cell = row, thing.cell
            name[cell], colour[cell], extent[cell] = thing.name, thing.colour, thing.size
    return PatchBatch(torch.from_numpy(np.stack(pictures)), *(torch.from_numpy(a) for a in (name, colour, extent)))
