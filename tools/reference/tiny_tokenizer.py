"""Tiny byte-level BPE tokenizers with the special tokens of the families under test."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

VOCABULARY_SIZE = 384
"""Byte alphabet (256) plus merges; special tokens come after it."""

LLAVA_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
LLAMA_SPECIAL_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]

CORPUS = [
    "What is in the picture? A small red square stands left of a large blue circle.",
    "How many shapes are there? There are three shapes: two green triangles and one yellow star.",
    "Describe the image in one sentence. The picture shows a cat that sleeps on a warm stone.",
    "What happens in the video? The ball moves from the left side to the right side, then it stops.",
    "Weights stay on flash and are read in chunks; rows that matter little are left out.",
    "It's a test, isn't it? We're sure you've seen 12 or 345 of them: they'll do.",
    "Ein schönes Bild, naïve façade, 你好世界, こんにちは, привет мир.",
    "system user assistant You are a helpful assistant. Compare the first image with the second.",
]

LLAVA_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + ' ' -}}
{%- if message['content'] is string -%}
{{- '\\n' + message['content'] -}}
{%- else -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'image') -%}{{- '<image>' -}}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'video') -%}{{- '<video>' -}}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') -%}
{%- if message['role'] == 'assistant' -%}{% generation %}{{- '\\n' + part['text'] -}}{% endgeneration %}
{%- else -%}{{- '\\n' + part['text'] -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

QWEN_CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

LLAMA_CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '[' ~ message['role'] | upper ~ ' ' ~ loop.index ~ ']\\n' ~ message['content'] ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '[ASSISTANT]\\n' -}}{%- endif -%}
"""


def _train_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Trains on the corpus above, with Qwen2's own normaliser and splitting."""
    import json

    trained = Tokenizer(models.BPE())
    qwen = Qwen2Tokenizer()
    trained.normalizer = qwen._tokenizer.normalizer
    trained.pre_tokenizer = qwen._tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    state = json.loads(trained.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def llava_tokenizer() -> Qwen2Tokenizer:
    """Qwen2 byte-level BPE with `<image>` and `<video>`, as LLaVA-OneVision checkpoints have it."""
    vocab, merges = _train_merges()
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None
    )
    tokenizer.add_special_tokens({"additional_special_tokens": LLAVA_SPECIAL_TOKENS})
    return tokenizer


def qwen_tokenizer() -> Qwen2Tokenizer:
    """The same vocabulary without the vision placeholders."""
    vocab, merges = _train_merges()
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None
    )
    tokenizer.add_special_tokens({"additional_special_tokens": LLAVA_SPECIAL_TOKENS[:3]})
    tokenizer.chat_template = QWEN_CHAT_TEMPLATE
    return tokenizer


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts a begin-of-text token first, as Llama 3 does."""
    from tokenizers import AddedToken

    vocab, merges = _train_merges()
    inner = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    from tokenizers import decoders

    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True) for token in LLAMA_SPECIAL_TOKENS])
    bos = LLAMA_SPECIAL_TOKENS[0]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, inner.token_to_id(bos))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token="<|eot_id|>", pad_token="<|end_of_text|>"
    )
    tokenizer.chat_template = LLAMA_CHAT_TEMPLATE
    return tokenizer
