#!/usr/bin/env python3
"""Writes the golden fixtures of vlm-executor: tiny checkpoints, pictures, and what the reference makes of them.

    python generate.py [--out DIR] [--only NAME ...]

Everything is seeded; README.md describes the layout and the pinned versions.
"""

import argparse
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.image_utils import load_image

import cases as case_list
import legacy_layouts
import tiny_models
import tiny_pictures

HERE = Path(__file__).resolve().parent
DEFAULT_OUT = HERE.parents[1] / "packages/vlm-executor/test/fixtures"
GREEDY_TOKENS = 32
MIN_MARGIN = 0.02
"""Smallest gap between the two best logits in a greedy golden (logits reach about 10)."""
LAST_POSITIONS = 3
SEEDS_TRIED = 400


def versions() -> dict:
    import safetensors, tokenizers, torchvision, transformers  # noqa: E401
    import PIL

    modules = dict(torch=torch, torchvision=torchvision, transformers=transformers, tokenizers=tokenizers,
                   safetensors=safetensors, numpy=np, pillow=PIL)  # fmt: skip
    return {"generator": "tools/reference/generate.py", "generatorVersion": 1, "python": platform.python_version(),
            **{name: module.__version__.split("+")[0] for name, module in modules.items()}}  # fmt: skip


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def frames_of(images: Path, video: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(images / name).convert("RGB")) for name in video])


def processor_inputs(processor, case, images: Path) -> dict:
    """Calls the reference processor as a user with these files would: pictures by path."""
    paths = [str(images / name) for name in case.images]
    pictures = None if not paths else [paths] if case.grouping == "conversation" else paths
    videos = [frames_of(images, video) for video in case.videos] or None
    return processor(text=case.prompt, images=pictures, videos=videos, return_tensors="pt")


def denormalise(pixels: torch.Tensor, spec) -> torch.Tensor:
    """Back to the 8-bit values that the processor normalised; they are integers, exactly."""
    shape = [1] * (pixels.ndim - 3) + [3, 1, 1]
    mean, std = (torch.tensor(spec.config[key], dtype=torch.float64).reshape(shape) for key in ("mean", "std"))
    values = (pixels.double() * std + mean) * 255
    assert (values - values.round()).abs().max() < 1e-3
    return values.round().to(torch.uint8)


@torch.no_grad()
def greedy(model, inputs: dict, tokens: int) -> tuple[list[int], float]:
    """Greedy continuation without stop tokens, and its smallest top-2 gap."""
    output = model(**inputs, use_cache=True)
    ids, margin = [], float("inf")
    for _ in range(tokens):
        best = output.logits[0, -1].float().topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
        output = model(
            input_ids=torch.tensor([[ids[-1]]]), past_key_values=output.past_key_values, use_cache=True
        )
    return ids, margin


@torch.no_grad()
def vision_internals(model, inputs: dict, spec) -> dict:
    """The selected vision layer and projector output of every tile, and the packed features."""
    inner = model.model
    kept = {}
    hook = inner.multi_modal_projector.register_forward_hook(
        lambda module, args, output: kept.update(visionSelected=args[0].clone(), projected=output.clone())
    )
    try:
        if "pixel_values" in inputs:
            packed = inner.get_image_features(
                inputs["pixel_values"], inputs["image_sizes"], batch_num_images=inputs.get("batch_num_images"),
                vision_aspect_ratio=spec.config["aspect_ratio"],
            ).pooler_output  # fmt: skip
            kept["packed"] = torch.cat(list(packed), dim=0)
        else:
            kept["packed"] = inner.get_video_features(inputs["pixel_values_videos"]).pooler_output[0]
    finally:
        hook.remove()
    return kept


def tiles_of(case, inputs: dict, spec, grid) -> list[torch.Tensor]:
    """The 8-bit tiles of each picture, without the padding that batching adds."""
    return [denormalise(pixels[:count], spec) for pixels, count in zip(inputs["pixel_values"], grid)]


def tile_counts(case, inputs: dict, spec) -> list[int]:
    from transformers.models.llava_onevision.modeling_llava_onevision import image_size_to_num_patches

    several = case.grouping == "conversation" and len(case.images) > 1
    pins = tiny_models.pinpoints(spec.config["image_size"], spec.config["most_tiles"])
    return [
        1 if several else image_size_to_num_patches(size.tolist(), pins, spec.config["image_size"])
        for size in inputs["image_sizes"]
    ]


@torch.no_grad()
def run_case(case, model, low_precision, processor, images: Path, spec, tensors: dict) -> dict | None:
    """Runs one case; None when its greedy continuation is not clear-cut (another seed is tried then)."""
    if spec.family == "llava_onevision":
        inputs = dict(processor_inputs(processor, case, images))
    else:
        inputs = dict(processor(case.prompt, return_tensors="pt"))
        inputs.pop("token_type_ids", None)
    record = {
        "name": case.name, "prompt": case.prompt, "images": case.images, "videos": case.videos,
        "grouping": case.grouping, "inputIds": inputs["input_ids"][0].tolist(),
    }  # fmt: skip
    if case.greedy:
        ids, margin = greedy(model, inputs, GREEDY_TOKENS)
        special = set((processor.tokenizer if hasattr(processor, "tokenizer") else processor).all_special_ids)
        known = len(processor.tokenizer if hasattr(processor, "tokenizer") else processor)
        if margin < MIN_MARGIN or special & set(ids) or max(ids) >= known or len(set(ids)) < 5:
            return None
        record["greedy"] = {"ids": ids, "minMargin": round(margin, 4)}
    total = len(record["inputIds"])
    first = 0 if case.logits == "all" else total - LAST_POSITIONS
    record["logits"] = {"tensor": f"{case.name}.logits", "firstPosition": first}
    tensors[f"{case.name}.logits"] = model(**inputs).logits[0, first:].float().contiguous()
    if low_precision is not None and case.greedy:
        exact = tensors[f"{case.name}.logits"]
        rough = low_precision(**inputs).logits[0, first:].float().contiguous()
        tensors[f"{case.name}.logitsLowPrecision"] = rough
        record["logits"]["lowPrecisionTensor"] = f"{case.name}.logitsLowPrecision"
        record["logits"]["lowPrecisionDeviation"] = round(float((rough - exact).norm() / exact.norm()), 5)
    if case.images:
        counts = tile_counts(case, inputs, spec)
        record["imageSizes"] = inputs["image_sizes"].tolist()
        record["tileCounts"] = counts
        tensors[f"{case.name}.tiles"] = torch.cat(tiles_of(case, inputs, spec, counts))
    if case.videos:
        tensors[f"{case.name}.frames"] = denormalise(inputs["pixel_values_videos"][0], spec)
    if case.internals:
        values = vision_internals(model, inputs, spec)
        kept = ["packed"] if case.internals == "packed" else ["visionSelected", "projected", "packed"]
        for key in kept:
            tensors[f"{case.name}.{key}"] = values[key].float().contiguous()
        record["internals"] = [f"{case.name}.{key}" for key in kept]
    return record


def renderings(companion, chats: list[dict]) -> list[dict]:
    return [
        {**chat, "addGenerationPrompt": add, "text": companion.apply_chat_template(
            chat["messages"], tokenize=False, add_generation_prompt=add)}
        for chat in chats for add in (True, False)
    ]  # fmt: skip


def encodings(tokenizer) -> list[dict]:
    rows = []
    for text in case_list.ENCODINGS:
        ids = tokenizer(text).input_ids
        rows.append({
            "text": text, "ids": ids, "idsWithoutSpecial": tokenizer(text, add_special_tokens=False).input_ids,
            "decoded": tokenizer.decode(ids), "decodedWithoutSpecial": tokenizer.decode(ids, skip_special_tokens=True),
        })  # fmt: skip
    return rows


def try_seed(spec, seed: int, out: Path):
    """Saves the checkpoint of one seed and runs all cases on what transformers loads back."""
    checkpoint = out / "models" / spec.name
    shutil.rmtree(checkpoint, ignore_errors=True)
    model, companion = tiny_models.build(spec, seed)
    model.save_pretrained(checkpoint)
    companion.save_pretrained(checkpoint)
    vision = spec.family == "llava_onevision"
    loader = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    options = dict(attn_implementation="eager")
    exact = loader.from_pretrained(checkpoint, dtype=torch.float32, **options).eval()
    rough = None if spec.dtype == "f32" else loader.from_pretrained(checkpoint, dtype="auto", **options).eval()
    processor = (AutoProcessor if vision else AutoTokenizer).from_pretrained(checkpoint)
    tensors: dict[str, torch.Tensor] = {}
    records = []
    # Those with a greedy continuation first: they decide whether the seed is kept.
    ordered = case_list.LLAVA_CASES if vision else case_list.TEXT_CASES
    for case in sorted(ordered, key=lambda one: not one.greedy):
        record = run_case(case, exact, rough, processor, out / "images", spec, tensors)
        if record is None:
            return None
        records.append(record)
    tokenizer = processor.tokenizer if vision else processor
    chats = renderings(processor, case_list.LLAVA_CHATS if vision else case_list.TEXT_CHATS)
    return records, tensors, {"chats": chats, "encodings": encodings(tokenizer)}


def generate_model(spec, out: Path) -> None:
    for seed in range(spec.first_seed, spec.first_seed + SEEDS_TRIED):
        result = try_seed(spec, seed, out)
        if result is not None:
            break
    else:
        raise SystemExit(f"{spec.name}: no seed gave clear-cut greedy continuations")
    records, tensors, text = result
    goldens = out / "goldens"
    goldens.mkdir(parents=True, exist_ok=True)
    header = {"versions": versions(), "model": spec.name, "family": spec.family, "dtype": spec.dtype, "seed": seed,
              "parameters": spec.config, "minMargin": MIN_MARGIN}  # fmt: skip
    write_json(goldens / f"{spec.name}.json", {**header, **text, "cases": records})
    save_file(tensors, goldens / f"{spec.name}.safetensors")
    print(f"{spec.name}: seed {seed}, {len(records)} cases")


def picture_tiles(processor, path: Path, spec):
    """Tiles and size of a picture given by path, or as `load_image` (PIL) reads it where that fails."""
    try:
        features = processor(images=str(path), return_tensors="pt")
        # A 16-bit picture by path keeps its 16-bit values and is still divided by 255.
        if features["pixel_values"].abs().max() > 10:
            raise ValueError("pixel values out of range")
        loaded = {"loadedBy": "path"}
    except Exception as error:  # noqa: BLE001: torchvision raises many kinds for formats that it lacks
        features = processor(images=load_image(str(path)), return_tensors="pt")
        loaded = {"loadedBy": "load_image", "byPathFailed": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
    return denormalise(features["pixel_values"][0], spec), features["image_sizes"][0].tolist(), loaded


def generate_pictures(spec, names: list[str], out: Path) -> None:
    """8-bit tiles of every picture under the image processor of one model, and small pictures as decoded by PIL."""
    processor = AutoProcessor.from_pretrained(out / "models" / spec.name).image_processor
    tensors, records = {}, []
    for name in names:
        path = out / "images" / name
        tensors[name], size, loaded = picture_tiles(processor, path, spec)
        decoded = np.asarray(load_image(str(path)))
        if decoded.size <= 64 * 64 * 3:
            tensors[f"{name}.decoded"] = torch.from_numpy(decoded.copy())
        records.append({"file": name, "sizeHeightWidth": size, "tiles": tensors[name].shape[0], **loaded})
    write_json(out / "goldens" / "pictures.json", {
        "versions": versions(), "processorOf": spec.name, "mean": spec.config["mean"], "std": spec.config["std"],
        "pictures": records})  # fmt: skip
    save_file(tensors, out / "goldens" / "pictures.safetensors")


def generate_token_counts(out: Path) -> None:
    """Tokens of pictures of many sizes under real and tiny configurations."""
    rng = np.random.default_rng(7)
    sizes = [(int(h), int(w)) for h, w in np.exp(rng.uniform(0, np.log(6000), (150, 2))).astype(int)]
    sizes += [(1, 1), (384, 384), (1, 6000), (6000, 1), (1080, 1920), (3024, 4032), (2304, 2304), (385, 768)]
    configurations = [(384, 14, 6, 9), (384, 14, 6, 4), (40, 8, 3, 4), (48, 16, 2, 9), (64, 16, 4, 2), (384, 16, 3, 9)]
    rows = []
    for side, patch, most, limit in configurations:
        options = {**tiny_models.LLAVA_A, "image_size": side, "patch_size": patch, "most_tiles": most,
                   "aspect_ratio": f"anyres_max_{limit}"}  # fmt: skip
        processor = tiny_models.llava_processor(tiny_models.tiny_tokenizer.llava_tokenizer(), options)
        counts = [processor._get_number_of_features(h, w, side, side) for h, w in sizes]
        rows.append({"imageSize": side, "patchSize": patch, "mostTiles": most, "maxTiles": limit, "counts": counts})
    (out / "goldens" / "token-counts.json").write_text(
        json.dumps({"versions": versions(), "sizesHeightWidth": sizes, "configurations": rows}) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--only", nargs="*", help="names of the models to regenerate (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = arguments.out
    names = tiny_pictures.write_all(out / "images")
    for spec in tiny_models.SPECS:
        if not arguments.only or spec.name in arguments.only:
            generate_model(spec, out)
    generate_pictures(tiny_models.SPECS[0], names, out)
    generate_token_counts(out)
    legacy_layouts.write_all(out)


if __name__ == "__main__":
    main()
