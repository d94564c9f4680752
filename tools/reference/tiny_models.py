"""Tiny models with random weights that are large enough for a wrong formula to show."""

from dataclasses import dataclass, field

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
)

import tiny_tokenizer

VOCABULARY_ROWS = 400
"""More embedding rows than tokens, as real checkpoints have."""
EXTRA_STD = {"image_newline": 0.4, "embed_tokens": 0.35, "position_embedding": 0.4, "lm_head": 0.3}
OPENAI_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def pinpoints(side: int, most: int) -> list[list[int]]:
    """Every grid of 1..most by 1..most tiles, as [height, width] in pixels."""
    return [[side * rows, side * columns] for rows in range(1, most + 1) for columns in range(1, most + 1)]


@dataclass
class ModelSpec:
    """One fixture: what to build, in which dtype to store it, and from which seed to start looking."""

    name: str
    family: str
    dtype: str
    config: dict = field(default_factory=dict)
    first_seed: int = 1


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fills every parameter: matrices ~ N(0, 1.3/sqrt(fan in)), norm weights in [0.5, 1.5], biases N(0, 0.15)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            special = [std for key, std in EXTRA_STD.items() if key in name]
            if special:
                parameter.copy_(noise * special[0])
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            elif parameter.ndim == 1:
                parameter.copy_(noise * 0.15)
            else:
                parameter.copy_(noise * 1.3 / parameter[0].numel() ** 0.5)


def quieten(model: torch.nn.Module, tokenizer) -> None:
    """Shrinks the head's rows of special and unused tokens, so that greedy goldens are plain text."""
    rows = [*tokenizer.all_special_ids, *range(len(tokenizer), VOCABULARY_ROWS)]
    with torch.no_grad():
        model.get_output_embeddings().weight[rows] *= 0.25


def llava_config(tokenizer, options: dict) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=36,
            intermediate_size=70,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=options["image_size"],
            patch_size=options["patch_size"],
            vision_use_head=False,
        ).to_dict(),
        text_config=Qwen2Config(
            vocab_size=VOCABULARY_ROWS,
            hidden_size=options["hidden_size"],
            intermediate_size=100,
            num_hidden_layers=2,
            num_attention_heads=options["heads"],
            num_key_value_heads=options["kv_heads"],
            max_position_embeddings=2048,
            rope_parameters={"rope_type": "default", "rope_theta": options["rope_theta"]},
            tie_word_embeddings=options["tied"],
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_layer=options["vision_feature_layer"],
        tie_word_embeddings=options["tied"],
        image_grid_pinpoints=pinpoints(options["image_size"], options["most_tiles"]),
        vision_aspect_ratio=options["aspect_ratio"],
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def llava_processor(tokenizer, options: dict) -> LlavaOnevisionProcessor:
    side = {"height": options["image_size"], "width": options["image_size"]}
    statistics = {"image_mean": options["mean"], "image_std": options["std"]}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(
            size=side,
            image_grid_pinpoints=pinpoints(options["image_size"], options["most_tiles"]),
            **statistics,
        ),
        video_processor=LlavaOnevisionVideoProcessor(size=side, **statistics),
        tokenizer=tokenizer,
        num_image_tokens=(options["image_size"] // options["patch_size"]) ** 2,
        vision_feature_select_strategy="full",
        chat_template=tiny_tokenizer.LLAVA_CHAT_TEMPLATE,
        vision_aspect_ratio=options["aspect_ratio"],
    )


def text_config(spec: ModelSpec, tokenizer):
    common = dict(
        vocab_size=VOCABULARY_ROWS,
        intermediate_size=100,
        num_hidden_layers=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    cls = {"qwen2": Qwen2Config, "llama": LlamaConfig}[spec.family]
    return cls(**{**common, **spec.config})


def build(spec: ModelSpec, seed: int):
    """Returns (model in f32 with weights rounded to the stored dtype, tokenizer or processor)."""
    if spec.family == "llava_onevision":
        tokenizer = tiny_tokenizer.llava_tokenizer()
        model = LlavaOnevisionForConditionalGeneration(llava_config(tokenizer, spec.config))
        companion = llava_processor(tokenizer, spec.config)
    elif spec.family == "qwen2":
        companion = tiny_tokenizer.qwen_tokenizer()
        model = Qwen2ForCausalLM(text_config(spec, companion))
    else:
        companion = tiny_tokenizer.llama_tokenizer()
        model = LlamaForCausalLM(text_config(spec, companion))
    randomise(model, seed)
    quieten(model, getattr(companion, "tokenizer", companion))
    model.generation_config.eos_token_id = model.config.get_text_config().eos_token_id
    dtype = getattr(torch, {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[spec.dtype])
    model = model.to(dtype).eval()
    return model, companion


LLAVA_A = dict(
    image_size=40, patch_size=8, hidden_size=72, heads=6, kv_heads=2, rope_theta=10000.0,
    vision_feature_layer=-1, most_tiles=3, aspect_ratio="anyres_max_4", tied=True,
    mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5],
)  # fmt: skip
LLAVA_B = dict(
    image_size=48, patch_size=16, hidden_size=80, heads=4, kv_heads=1, rope_theta=1000000.0,
    vision_feature_layer=-2, most_tiles=2, aspect_ratio="anyres_max_9", tied=False,
    mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD,
)  # fmt: skip
QWEN = dict(
    hidden_size=72, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
)  # fmt: skip
LLAMA = dict(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)  # fmt: skip
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip

SPECS = [
    ModelSpec("llava-tied-f32", "llava_onevision", "f32", LLAVA_A, 100),
    ModelSpec("llava-tied-bf16", "llava_onevision", "bf16", LLAVA_A, 200),
    ModelSpec("llava-untied-bf16", "llava_onevision", "bf16", LLAVA_B, 300),
    ModelSpec("qwen2-tied-f32", "qwen2", "f32", QWEN, 400),
    ModelSpec("qwen2-tied-bf16", "qwen2", "bf16", QWEN, 500),
    ModelSpec("llama-untied-f32", "llama", "f32", LLAMA, 600),
    # Heads of 28, wider together than the hidden size: 3 * 28 != 60.
    ModelSpec(
        "llama-headdim-bf16", "llama", "bf16",
        {**LLAMA, "hidden_size": 60, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 28}, 700,
    ),
    ModelSpec(
        "llama-rope3-f16", "llama", "f16",
        {**LLAMA, "num_key_value_heads": 2, "rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}, 800,
    ),
]  # fmt: skip
