"""The same checkpoint as other versions of transformers name its tensors and lay out its files."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

SOURCE = "llava-tied-bf16"
SHARDS = 2


def rename_4x(name: str) -> str:
    """As transformers 4.45 to 4.51 wrote LLaVA-OneVision."""
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def rename_nested(name: str) -> str:
    """As transformers 4.52 to 5.x hold the modules: everything but the head below `model.`."""
    name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    name = name.replace("language_model.model.", "language_model.", 1)
    return name.replace("language_model.lm_head.", "lm_head.") if "lm_head" in name else f"model.{name}"


def _config_4x(config: dict) -> dict:
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text.pop("layer_types")
    text["rope_theta"] = rope["rope_theta"]
    config["torch_dtype"] = text["torch_dtype"] = config.pop("dtype")
    text.pop("dtype", None)
    config["vision_config"].pop("dtype", None)
    config["transformers_version"] = "4.45.0"
    config["use_image_newline_parameter"] = True
    return config


def _split_processor(source: Path, target: Path) -> None:
    """4.x: one file per processor, and the chat template in JSON."""
    nested = json.loads((source / "processor_config.json").read_text())
    image = nested.pop("image_processor")
    nested.pop("video_processor")
    (target / "preprocessor_config.json").write_text(json.dumps(image, indent=2))
    (target / "processor_config.json").write_text(json.dumps(nested, indent=2))
    template = (source / "chat_template.jinja").read_text()
    (target / "chat_template.json").write_text(json.dumps({"chat_template": template}, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, target / name)


def _write_sharded(tensors: dict, target: Path) -> None:
    names = sorted(tensors)
    weight_map = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::SHARDS]}
        save_file(part, target / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def write_all(out: Path) -> None:
    """`llava-4x-sharded-bf16` and `llava-nested-bf16`: their golden is that of the source model."""
    source = out / "models" / SOURCE
    tensors = load_file(source / "model.safetensors")

    legacy = out / "models" / "llava-4x-sharded-bf16"
    shutil.rmtree(legacy, ignore_errors=True)
    legacy.mkdir(parents=True)
    config = _config_4x(json.loads((source / "config.json").read_text()))
    (legacy / "config.json").write_text(json.dumps(config, indent=2))
    _split_processor(source, legacy)
    _write_sharded({rename_4x(name): tensor for name, tensor in tensors.items()}, legacy)

    nested = out / "models" / "llava-nested-bf16"
    shutil.rmtree(nested, ignore_errors=True)
    shutil.copytree(source, nested)
    renamed = {rename_nested(name): tensor for name, tensor in tensors.items()}
    save_file(renamed, nested / "model.safetensors", metadata={"format": "pt"})
