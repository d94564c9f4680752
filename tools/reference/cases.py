"""The prompts, pictures and clips that the golden outputs answer for."""

from dataclasses import dataclass, field

CLIP = ["clip-frame0.png", "clip-frame1.png", "clip-frame2.png"]
CLIP_LONG = [*CLIP, "clip-frame3.png"]


@dataclass
class Case:
    """One prompt. `grouping` says how several pictures reach the reference processor:

    "conversation": `images=[[a, b]]`, as `apply_chat_template` passes those of one conversation: base tiles only;
    "independent":  `images=[a, b]`, as a plain call passes them: every picture with all its tiles.
    """

    name: str
    prompt: str
    images: list[str] = field(default_factory=list)
    videos: list[list[str]] = field(default_factory=list)
    grouping: str = "conversation"
    logits: str = "last"
    """"all" positions or the last few."""
    greedy: bool = True
    internals: str = ""
    """"all": the vision tower's, the projector's and the packed features; "packed": only the last."""


def chat(text: str, vision: str = "") -> str:
    return f"<|im_start|>user {vision}\n{text}<|im_end|><|im_start|>assistant\n"


LLAVA_CASES = [
    Case("text", chat("What is a chunk?"), logits="all"),
    Case("raw-text", "Weights stay on flash", logits="all", greedy=False),
    Case("small-image", chat("What is in the image?", "<image>"), ["square-40.png"], internals="all"),
    Case("anyres-wide", chat("How many shapes are there?", "<image>"), ["wide-150x50.png"], internals="all"),
    Case("anyres-tall", chat("Describe it.", "<image>"), ["tall-30x110.png"], greedy=False, internals="packed"),
    Case("anyres-large", chat("Describe the image in one sentence.", "<image>"), ["large-320x231.jpg"], internals="packed"),
    Case("image-inline", "Left of <image> it ends.", ["tiny-7x5.png"], greedy=False),
    Case(
        "several-images", chat("Compare the first image with the second.", "<image><image>"),
        ["wide-150x50.png", "tall-30x110.png"], internals="packed",
    ),
    Case(
        "several-independent", chat("Compare them.", "<image><image>"),
        ["square-40.png", "gray-60x44.png"], grouping="independent", greedy=False, internals="packed",
    ),
    Case("video", chat("What happens in the video?", "<video>"), videos=[CLIP], internals="all"),
    Case(
        "image-and-video", chat("Is the shape in the video?", "<image><video>"),
        ["square-40.png"], [CLIP_LONG], greedy=False,
    ),
]  # fmt: skip

TEXT_CASES = [
    Case("raw-text", "Weights stay on flash and are read in chunks", logits="all"),
    Case("one-token", "a", logits="all", greedy=False),
    Case("unicode", "Ein schönes Bild: 你好, ☃ 345", logits="all"),
    Case(
        "long", " ".join(f"There are {n} shapes and {n * n % 97} stars in picture {n}." for n in range(1, 15)),
        greedy=False,
    ),
]  # fmt: skip

USER_IMAGE = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is in the image?"}]}
LLAVA_CHATS = [
    {"name": "text", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
    {"name": "image", "messages": [USER_IMAGE]},
    {"name": "string-content", "messages": [{"role": "user", "content": "Only text"}]},
    {
        "name": "system-and-turns",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            USER_IMAGE,
            {"role": "assistant", "content": [{"type": "text", "text": "A red square."}]},
            {"role": "user", "content": [{"type": "text", "text": "And where?"}, {"type": "text", "text": "Say it."}]},
        ],
    },
    {
        "name": "two-images-and-video",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Compare."}, {"type": "image"}, {"type": "video"}, {"type": "image"},
                ],
            }
        ],
    },
]  # fmt: skip
TEXT_CHATS = [
    {"name": "single", "messages": [{"role": "user", "content": " Hello there. "}]},
    {
        "name": "system-and-turns",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": "Three?"},
        ],
    },
]
ENCODINGS = [
    "", " ", "a", "Hello, world!", "  two  spaces\n\nand lines\t", "It's 12 o'clock; they'll come.",
    "naïve façade ☃ 你好世界", "e\u0301 combining", "<|im_start|>user\nhi<|im_end|>", "x<image>y <video>",
    "👩‍👩‍👧 family", "\r\nwindows\r\n", "12345678", "MiXeD CASE's",
]  # fmt: skip
