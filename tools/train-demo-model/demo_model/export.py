"""Writes the model as a Hugging Face checkpoint directory, with transformers' own `save_pretrained`.

    python -m demo_model.export --work ~/demo-work --phase clips --to ../../apps/nchunk/assets/demo-model
"""

import argparse
from pathlib import Path

import torch
from transformers import LlavaOnevisionForConditionalGeneration, Qwen2Tokenizer

from .model import build_config, build_model, build_processor
from .tokenizer import build_tokenizer


def export(model: LlavaOnevisionForConditionalGeneration, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """The bf16 weights and everything `AutoProcessor` needs.

    `processor_config.json` holds both preprocessors; the two older files beside it are for loaders that look there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor = build_processor(tokenizer)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    processor.video_processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--phase", default="clips")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = build_tokenizer()
    model = build_model(build_config(tokenizer), 0).to(torch.bfloat16)
    model.load_state_dict(torch.load(arguments.work / f"{arguments.phase}.pt", weights_only=True)["model"])
    export(model, tokenizer, arguments.to)


if __name__ == "__main__":
    main()
