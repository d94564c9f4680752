"""What transformers answers to the bundled questions, greedily: the witness that the demonstration's test compares with.

    python -m demo_model.demo_answers --model ../../apps/nchunk/assets/demo-model --demo ../../apps/nchunk/assets/demo \\
        --out ../../apps/nchunk/test/fixtures/demo-answers.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

MAX_ANSWER_TOKENS = 64


@torch.inference_mode()
def answer(model, processor, question: dict, folder: Path) -> str:
    if "image" in question:
        visual, pixels = "image", {"images": [Image.open(folder / question["image"]).convert("RGB")]}
    else:
        frames = [np.asarray(Image.open(folder / name).convert("RGB")) for name in question["frames"]]
        visual, pixels = "video", {"videos": [np.stack(frames)]}
    content = [{"type": visual}, {"type": "text", "text": question["prompt"]}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[prompt], return_tensors="pt", **pixels).to(model.dtype)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
    return processor.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "demo", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    # The stored bf16 weights, computed in float32 as the executor does.
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    questions = json.loads((arguments.demo / "questions.json").read_text())
    answers = {q["id"]: answer(model, processor, q, arguments.demo) for q in questions}
    result = {"transformers": transformers.__version__, "torch": torch.__version__, "answers": answers}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
