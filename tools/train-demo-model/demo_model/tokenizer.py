"""A byte-level BPE tokenizer of the Qwen2 kind, trained until every word of the corpus is one token."""

import json

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from .questions import vocabulary_text

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
IMAGE = "<image>"
VIDEO = "<video>"
# More than the corpus needs: training stops by itself once every word is whole.
MAX_VOCABULARY = 1024

# Pictures and clips of a turn come first, then its text; one line per turn, as the public checkpoints of this
# architecture are prompted.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set separator = ' ' if message['role'] == 'user' else '\\n' -%}
{{- '<|im_start|>' + message['role'] + separator -}}
{%- if message['content'] is string -%}
{{- ('\\n' if message['role'] == 'user' else '') + message['content'] -}}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>' -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'video' -%}{{- '<video>' -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{- ('\\n' if message['role'] == 'user' else '') + part['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def _train_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(vocab_size=MAX_VOCABULARY, min_frequency=1, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator(vocabulary_text(), trainer)
    state = json.loads(bpe.to_str())["model"]
    return state["vocab"], [tuple(m) for m in state["merges"]]


def build_tokenizer() -> Qwen2Tokenizer:
    vocab, merges = _train_bpe()
    # The special tokens follow the ordinary ones, as in Qwen2.
    for token in (END_OF_TEXT, TURN_START, TURN_END, IMAGE, VIDEO):
        vocab[token] = len(vocab)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, unk_token=END_OF_TEXT, eos_token=TURN_END, pad_token=END_OF_TEXT,
        extra_special_tokens={"image_token": IMAGE, "video_token": VIDEO, "turn_start_token": TURN_START},
        model_max_length=2048,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
