"""The two training losses: patch labels for the tower alone, answers for the whole model."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import rotate_half

from .batches import IGNORE, Batch, PatchBatch
from .model import clip_embeddings, image_embeddings, pixels_from, projected_features, tower_features
from .world import COLOURS, NAMES, SIZES

# Five objects in a caption and a dozen short answers stay well below.
MAX_READ_ROWS = 96
WORD_LOSS_WEIGHT = 0.3


class PatchHead(nn.Module):
    """Reads what covers each patch off the tower's features. Thrown away after the first phase."""

    CLASSES = (len(NAMES) + 1, len(COLOURS) + 1, len(SIZES) + 1)

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, sum(self.CLASSES))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.out(self.norm(features)).float().split(self.CLASSES, dim=-1)


def patch_loss(model: LlavaOnevisionForConditionalGeneration, head: PatchHead, batch: PatchBatch):
    """Loss, and how many of the covered patches have name, colour and size all right."""
    features = tower_features(model, pixels_from(batch.pictures).to(model.dtype))
    name, colour, size = head(features)
    covered = batch.name < len(NAMES)
    loss = sum(F.cross_entropy(logits.transpose(1, 2), target)
               for logits, target in ((name, batch.name), (colour, batch.colour), (size, batch.size)))
    right = ((name.argmax(-1) == batch.name) & (colour.argmax(-1) == batch.colour) & (size.argmax(-1) == batch.size))
    return loss, float(right[covered].float().mean())


def last_layer(decoder, hidden: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor,
               sin: torch.Tensor) -> torch.Tensor:
    """The decoder's last layer and final norm for the positions `rows` [B, R] alone: the loss reads no others.

    `hidden` [B, L, D], `mask` [B, 1, L, L] additive, `cos` and `sin` [B, L, 64]. Returns [B, R, D].
    """
    layer = decoder.layers[-1]
    attention = layer.self_attn

    def at_rows(tensor):
        return tensor.gather(1, rows[:, :, None].expand(-1, -1, tensor.shape[-1]))

    def heads(tensor):
        return tensor.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    def rotated(tensor, cosine, sine):
        return tensor * cosine[:, None] + rotate_half(tensor) * sine[:, None]

    normed = layer.input_layernorm(hidden)
    query = rotated(heads(attention.q_proj(at_rows(normed))), at_rows(cos), at_rows(sin))
    key = rotated(heads(attention.k_proj(normed)), cos, sin)
    value = heads(attention.v_proj(normed))
    mixed = F.scaled_dot_product_attention(query, key, value, at_rows(mask[:, 0])[:, None], enable_gqa=True)
    kept = at_rows(hidden) + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return decoder.norm(kept + layer.mlp(layer.post_attention_layernorm(kept)))


def read_rows(labels: torch.Tensor) -> torch.Tensor:
    """[B, R]: the positions whose next token has a label; R is fixed, a row that is left over points at position 0."""
    read = F.pad(labels[:, 1:] != IGNORE, (0, 1))
    if int(read.sum(1).max()) > MAX_READ_ROWS:
        raise ValueError(f"more than {MAX_READ_ROWS} labels in a sequence")
    order = torch.sort(read.to(torch.uint8), dim=1, descending=True, stable=True)
    return torch.where(order.values.bool(), order.indices, 0)[:, :MAX_READ_ROWS]


def decode(model: LlavaOnevisionForConditionalGeneration, visual_offset: int, batch: Batch, visual: torch.Tensor,
           rows: torch.Tensor) -> torch.Tensor:
    """Hidden states [B, R, D] at `rows`, with the picture's or clip's embeddings in their place."""
    decoder = model.model.language_model
    text = decoder.embed_tokens(batch.ids)
    hidden = torch.cat([text[:, :visual_offset], visual, text[:, visual_offset + visual.shape[1]:]], 1)
    mask = torch.zeros(batch.mask.shape, dtype=model.dtype).masked_fill_(~batch.mask, torch.finfo(model.dtype).min)
    cos, sin = decoder.rotary_emb(hidden, batch.positions)
    for layer in decoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=mask, position_ids=batch.positions, position_embeddings=(cos, sin))
    return last_layer(decoder, hidden, rows, mask, cos, sin)


def word_loss(projected: torch.Tensor, embeddings: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Pulls a projected patch [N, 16, D] towards the embeddings [V, D] of the words [N, 16, W] for what is in it.

    Then a word of the question finds the patches it fits, as it would find itself in a text.
    """
    inside = words[..., 0] >= 0
    kept, targets = projected[inside].float(), words[inside]
    kept = kept * torch.rsqrt(kept.square().mean(-1, keepdim=True) + 1e-6)
    scores = F.log_softmax(kept @ embeddings.float().T, -1).gather(1, targets.clamp(min=0))
    return -scores[targets >= 0].mean()


def answer_loss(model: LlavaOnevisionForConditionalGeneration, visual_offset: int, batch: Batch):
    """Loss over captions and answers, and the share of their tokens that is predicted right."""
    projected = projected_features(model, pixels_from(batch.pictures).to(model.dtype))
    if batch.frame_index is None:
        visual = image_embeddings(model, projected)
    else:
        visual = clip_embeddings(model, projected, batch.frame_index)
    rows = read_rows(batch.labels)
    hidden = decode(model, visual_offset, batch, visual, rows)
    labels = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE).gather(1, rows)
    # Left-over rows point at position 0, whose next token never has a label.
    logits = F.linear(hidden, model.model.language_model.embed_tokens.weight).float()
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
    kept = labels != IGNORE
    naming = word_loss(projected, model.model.language_model.embed_tokens.weight, batch.words)
    return loss + WORD_LOSS_WEIGHT * naming, float((logits.argmax(-1) == labels)[kept].float().mean())
