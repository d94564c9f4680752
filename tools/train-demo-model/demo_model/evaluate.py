"""Dense exact-match accuracy per kind of an exported checkpoint, through transformers alone.

    python -m demo_model.evaluate --model ../../apps/nchunk/assets/demo-model --heldout heldout --out results.json

The checkpoint is loaded by `from_pretrained`, prompts come from `AutoProcessor` and its chat template, answers from
greedy `generate`. Prompts of equal length share a batch, so nothing is padded.
"""

import argparse
import json
import time
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from .clips import FRAMES
from .heldout import TILES_PER_ROW
from .world import SIDE_PX

MAX_ANSWER_TOKENS = 12


@lru_cache(maxsize=16)
def _sheet(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def visual_of(entry: dict, folder: Path) -> np.ndarray:
    """[64, 64, 3] of a picture, [8, 64, 64, 3] of a clip."""
    sheet = _sheet(folder / entry["sheet"])
    if "tile" in entry:
        row, column = divmod(entry["tile"], TILES_PER_ROW)
        return sheet[row * SIDE_PX:(row + 1) * SIDE_PX, column * SIDE_PX:(column + 1) * SIDE_PX]
    strip = sheet[entry["row"] * SIDE_PX:(entry["row"] + 1) * SIDE_PX]
    return strip.reshape(SIDE_PX, FRAMES, SIDE_PX, 3).swapaxes(0, 1)


def load_questions(folder: Path, limit: int) -> list[dict]:
    entries = [json.loads(line) for name in ("pictures", "clips")
               for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for entry in entries:
        if taken[entry["kind"]] < limit:
            taken[entry["kind"]] += 1
            kept.append(entry)
    return kept


def prompt_of(processor, entry: dict) -> str:
    visual = "image" if "tile" in entry else "video"
    content = [{"type": visual}, {"type": "text", "text": entry["question"]}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@torch.inference_mode()
def answer(model, processor, entries: list[dict], folder: Path) -> list[str]:
    """Greedy answers to questions whose prompts are equally long."""
    visuals = [visual_of(entry, folder) for entry in entries]
    key = "images" if "tile" in entries[0] else "videos"
    inputs = processor(text=[prompt_of(processor, e) for e in entries], return_tensors="pt",
                       **{key: [Image.fromarray(v) for v in visuals] if key == "images" else visuals})
    inputs = inputs.to(model.dtype)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
    texts = processor.batch_decode(output[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def evaluate(model, processor, entries: list[dict], folder: Path, batch: int) -> list[str]:
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        groups["tile" in entry, len(processor.tokenizer.encode(prompt_of(processor, entry)))].append(index)
    answers = [""] * len(entries)
    for indices in groups.values():
        for start in range(0, len(indices), batch):
            chosen = indices[start:start + batch]
            for index, text in zip(chosen, answer(model, processor, [entries[i] for i in chosen], folder)):
                answers[index] = text
    return answers


def summarise(entries: list[dict], answers: list[str]) -> dict:
    right: dict[str, list[bool]] = defaultdict(list)
    for entry, text in zip(entries, answers):
        right[entry["kind"]].append(text == entry["answer"])
    kinds = {kind: {"questions": len(hits), "right": sum(hits), "accuracy": round(sum(hits) / len(hits), 4)}
             for kind, hits in right.items()}
    pictures = [h for kind, hits in right.items() for h in hits if kind not in ("direction", "order", "changed")]
    clips = [h for kind, hits in right.items() for h in hits if kind in ("direction", "order", "changed")]
    return {"kinds": kinds, "pictures": round(float(np.mean(pictures)), 4), "clips": round(float(np.mean(clips)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--wrong", type=Path, default=None, help="JSON lines of every wrong answer")
    parser.add_argument("--limit", type=int, default=1_000, help="questions of each kind")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    entries = load_questions(arguments.heldout, arguments.limit)
    started = time.monotonic()
    answers = evaluate(model, processor, entries, arguments.heldout, arguments.batch)
    result = {"transformers": transformers.__version__, "torch": torch.__version__, "dtype": "bfloat16",
              "decoding": "greedy", "seconds": round(time.monotonic() - started), **summarise(entries, answers)}
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.wrong is not None:
        arguments.wrong.write_text("".join(
            json.dumps({**entry, "said": text}) + "\n"
            for entry, text in zip(entries, answers) if text != entry["answer"]))


if __name__ == "__main__":
    main()
