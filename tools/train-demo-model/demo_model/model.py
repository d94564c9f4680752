"""The architecture: SigLIP tower, MLP projector and Qwen2 decoder, small but of the real shapes."""

import math

import torch
from transformers import (GenerationConfig, LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration,
                          LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor,
                          Qwen2Config, Qwen2Tokenizer, SiglipVisionConfig)

from .tokenizer import CHAT_TEMPLATE, END_OF_TEXT, IMAGE, TURN_END, VIDEO
from .world import SIDE_PX

PATCH_PX = 16
PATCHES_PER_SIDE = SIDE_PX // PATCH_PX
TILE_TOKENS = PATCHES_PER_SIDE**2
# Base tile, then the identical full tile with a newline after each row of patches.
IMAGE_TOKENS = TILE_TOKENS + PATCHES_PER_SIDE * (PATCHES_PER_SIDE + 1)
# Every frame pooled 2x, one newline after the last.
FRAME_TOKENS = (PATCHES_PER_SIDE // 2) ** 2


def build_config(tokenizer: Qwen2Tokenizer) -> LlavaOnevisionConfig:
    tower = SiglipVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, patch_size=PATCH_PX,
        image_size=SIDE_PX, vision_use_head=False)
    # Wide rather than deep, so that a row of a projection looks like that of a real model.
    decoder = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=384, intermediate_size=1024, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=2048, rope_theta=10000.0, tie_word_embeddings=True,
        rms_norm_eps=1e-6, use_sliding_window=False, bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT))
    return LlavaOnevisionConfig(
        vision_config=tower, text_config=decoder, tie_word_embeddings=True,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_feature_layer=-1, vision_feature_select_strategy="full", projector_hidden_act="gelu",
        image_grid_pinpoints=[[SIDE_PX, SIDE_PX]], vision_aspect_ratio="anyres_max_9")


def grid_waves(side: int, width: int) -> torch.Tensor:
    """[side * side, width]: sines and cosines of row and column, a start from which neighbours are easily found."""
    periods = side * 2.0 ** -torch.linspace(-1, math.log2(side) - 1, width // 4)
    angles = torch.arange(side)[:, None] * (2 * math.pi / periods)[None]
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    rows = waves[:, None].expand(side, side, -1)
    columns = waves[None].expand(side, side, -1)
    return torch.cat([rows, columns], -1).reshape(side * side, width)


def build_model(config: LlavaOnevisionConfig, seed: int) -> LlavaOnevisionForConditionalGeneration:
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    places = model.model.vision_tower.embeddings.position_embedding.weight
    with torch.no_grad():
        places.copy_(grid_waves(PATCHES_PER_SIDE, places.shape[1]))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=config.text_config.eos_token_id, pad_token_id=config.text_config.pad_token_id)
    return model


def build_processor(tokenizer: Qwen2Tokenizer) -> LlavaOnevisionProcessor:
    pixels = {"size": {"height": SIDE_PX, "width": SIDE_PX}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
              "rescale_factor": 1 / 255}
    images = LlavaOnevisionImageProcessor(**pixels, image_grid_pinpoints=[[SIDE_PX, SIDE_PX]])
    videos = LlavaOnevisionVideoProcessor(**pixels)
    return LlavaOnevisionProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, num_image_tokens=TILE_TOKENS,
        vision_feature_select_strategy="full", chat_template=CHAT_TEMPLATE, image_token=IMAGE, video_token=VIDEO,
        vision_aspect_ratio="anyres_max_9")


def pixels_from(pictures: torch.Tensor) -> torch.Tensor:
    """[N, 64, 64, 3] uint8 to [N, 3, 64, 64] as the processor normalises them (mean and deviation 0.5)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def tower_features(model: LlavaOnevisionForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """[N, 16, 192]: `vision_feature_layer` -1 is the last layer's output before the final norm, as in SigLIP."""
    tower = model.model.vision_tower
    return tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state


def projected_features(model: LlavaOnevisionForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """[N, 16, hidden]"""
    return model.model.multi_modal_projector(tower_features(model, pixels))


def image_embeddings(model: LlavaOnevisionForConditionalGeneration, projected: torch.Tensor) -> torch.Tensor:
    """[N, 36, hidden]. The two tiles of a 64x64 picture are the same pixels, so the tower runs once."""
    count, _, width = projected.shape
    rows = projected.view(count, PATCHES_PER_SIDE, PATCHES_PER_SIDE, width)
    newline = model.model.image_newline.to(projected.dtype).expand(count, PATCHES_PER_SIDE, 1, width)
    return torch.cat([projected, torch.cat([rows, newline], 2).flatten(1, 2)], 1)


def clip_embeddings(model: LlavaOnevisionForConditionalGeneration, projected: torch.Tensor,
                    frame_index: torch.Tensor) -> torch.Tensor:
    """[N, 8 * 4 + 1, hidden] from the distinct frames' features and `frame_index` [N, 8] into them."""
    pooled = model.model.apply_pooling(projected)[frame_index]
    newline = model.model.image_newline.to(pooled.dtype).expand(len(frame_index), 1, pooled.shape[-1])
    return torch.cat([pooled.flatten(1, 2), newline], 1)
