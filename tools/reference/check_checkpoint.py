#!/usr/bin/env python3
"""Reference logits of any checkpoint, in the form that `nchunk logits --json` prints, or a comparison with it.

    python check_checkpoint.py DIR --prompt TEXT [--image FILE ...] [--all] [--dtype float32] > reference.json
    python check_checkpoint.py DIR --prompt TEXT [--image FILE ...] [--all] --compare ours.json

The prompt is taken as it is, without a chat template. Exit status: 0 alike, 1 not alike, 2 wrong use.
"""

import argparse
import json
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

DEFAULT_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt")
    prompt.add_argument("--token-ids", help="comma-separated; without pictures")
    parser.add_argument("--image", action="append", default=[], help="may be given several times")
    parser.add_argument("--video", action="append", default=[], help="comma-separated frame files of one clip")
    parser.add_argument(
        "--grouping", choices=("independent", "conversation"), default="independent",
        help="several pictures: each with all its tiles (a plain processor call), or base tiles only (as in a chat)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="logits of every position, not only the last")
    parser.add_argument("--dtype", choices=tuple(DEFAULT_TOLERANCE), default="float32", help="compute dtype")
    parser.add_argument("--compare", metavar="FILE", help="output of nchunk logits --json")
    parser.add_argument("--tolerance", type=float, help="relative distance ||a - b|| / ||b|| per position")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.token_ids and (arguments.image or arguments.video):
        parser.error("--token-ids takes no pictures: placeholders cannot be expanded in ids")
    return arguments


def pixels_of(path: str):
    """The file upright and in RGB, without the note of a transparent colour that a palette leaves behind."""
    import numpy
    from transformers.image_utils import load_image

    return numpy.asarray(load_image(path))


def frames_of(files: str):
    import numpy

    return numpy.stack([pixels_of(name) for name in files.split(",")])


def model_inputs(arguments) -> dict:
    if arguments.token_ids:
        return {"input_ids": torch.tensor([[int(part) for part in arguments.token_ids.split(",")]])}
    if not arguments.image and not arguments.video:
        ids = AutoTokenizer.from_pretrained(arguments.checkpoint)(arguments.prompt, return_tensors="pt")["input_ids"]
        return {"input_ids": ids}
    from PIL import Image

    pictures = [Image.fromarray(pixels_of(path)) for path in arguments.image] or None
    if pictures and arguments.grouping == "conversation":
        pictures = [pictures]
    videos = [frames_of(files) for files in arguments.video] or None
    processor = AutoProcessor.from_pretrained(arguments.checkpoint)
    return dict(processor(text=arguments.prompt, images=pictures, videos=videos, return_tensors="pt"))


@torch.no_grad()
def reference_logits(arguments) -> dict:
    inputs = model_inputs(arguments)
    vision = hasattr(AutoConfig.from_pretrained(arguments.checkpoint), "vision_config")
    loader = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model = loader.from_pretrained(arguments.checkpoint, dtype=getattr(torch, arguments.dtype)).eval()
    logits = model(**inputs).logits[0].float()
    if not arguments.all:
        logits = logits[-1:]
    return {
        "tokenIds": inputs["input_ids"][0].tolist(), "vocabSize": logits.shape[-1], "logits": logits.tolist(),
    }  # fmt: skip


def compare(ours: dict, reference: dict, tolerance: float) -> bool:
    """Prints one JSON report; true when ids are identical and every position is within the tolerance."""
    report = {"tokenIdsIdentical": ours["tokenIds"] == reference["tokenIds"], "tolerance": tolerance}
    a, b = torch.tensor(ours["logits"]), torch.tensor(reference["logits"])
    report["shape"] = {"ours": list(a.shape), "reference": list(b.shape)}
    if a.shape == b.shape:
        distance = (a - b).norm(dim=-1) / b.norm(dim=-1)
        report["maxRelative"] = float(distance.max())
        report["worstPosition"] = int(distance.argmax())
        report["maxAbsolute"] = float((a - b).abs().max())
        report["sameBestToken"] = float((a.argmax(-1) == b.argmax(-1)).float().mean())
    alike = report["tokenIdsIdentical"] and a.shape == b.shape and report["maxRelative"] <= tolerance
    print(json.dumps({"alike": alike, **report}, indent=1))
    return alike


def main() -> int:
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    reference = reference_logits(arguments)
    if arguments.compare is None:
        json.dump(reference, sys.stdout)
        print()
        return 0
    with open(arguments.compare, encoding="utf-8") as file:
        ours = json.load(file)
    tolerance = DEFAULT_TOLERANCE[arguments.dtype] if arguments.tolerance is None else arguments.tolerance
    return 0 if compare(ours, reference, tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
