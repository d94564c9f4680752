"""Questions with one right answer each, by construction, and the dense captions."""

import numpy as np

from .clips import Clip
from .world import COLOURS, DIGITS, NAMES, PLACES, SHAPES, SIZES, Thing, random_name

PICTURE_KINDS = ("colour", "shape", "count", "position", "is-there", "digit")
DESCRIBE_PICTURE = "Describe the picture."
DESCRIBE_CLIP = "Describe the clip."
Question = tuple[str, str, str]
"""(kind, question, answer)"""


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeio8" else f"a {words}"


def full_name(thing: Thing) -> str:
    return f"{COLOURS[thing.colour]} {NAMES[thing.name]}"


def dense_name(thing: Thing) -> str:
    return f"{SIZES[thing.size]} {full_name(thing)}"


def caption(things: list[Thing]) -> str:
    """Every object with its place, in reading order of the cells."""
    return ", ".join(f"{dense_name(t)} {PLACES[t.quadrant]}" for t in things) + "."


def _pick(rng: np.random.Generator, options: list):
    return options[rng.integers(len(options))] if options else None


def _only(things: list[Thing], test) -> Thing | None:
    found = [t for t in things if test(t)]
    return found[0] if len(found) == 1 else None


def _alone(things: list[Thing], thing: Thing) -> bool:
    return sum(t.quadrant == thing.quadrant for t in things) == 1


def _names_for(things: list[Thing], thing: Thing, hide: str = "") -> list[str]:
    """Ways to name `thing` that fit no other object and do not give away the attribute in `hide`."""
    by_size = (lambda t: SIZES[t.size] + " ")
    by_colour = (lambda t: COLOURS[t.colour] + " ")
    by_name = (lambda t: NAMES[t.name])
    by_class = (lambda t: "digit" if t.is_digit else "shape")
    plans = {
        "colour": [(by_name,), (by_size, by_name), (by_class,)],
        "place": [(by_name,), (by_colour, by_name), (by_size, by_name), (by_class,)],
    }
    names = []
    for plan in plans[hide]:
        text = "".join(part(thing) for part in plan)
        if sum("".join(part(t) for part in plan) == text for t in things) == 1:
            names.append(text)
    return names


def ask_colour(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    thing = _pick(rng, things)
    names = _names_for(things, thing, "colour")
    if _alone(things, thing):
        names.append(f"object at the {PLACES[thing.quadrant]}")
    return ("colour", f"What colour is the {_pick(rng, names)}?", COLOURS[thing.colour]) if names else None


def ask_shape(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    thing = _pick(rng, [t for t in things if not t.is_digit])
    if thing is None:
        return None
    forms = [f"What shape is at the {PLACES[thing.quadrant]}?"] if _alone(things, thing) else []
    if _only(things, lambda t: t.colour == thing.colour):
        forms.append(f"What shape is the {COLOURS[thing.colour]} object?")
    if _only(things, lambda t: t.size == thing.size):
        forms.append(f"What shape is the {SIZES[thing.size]} object?")
    return ("shape", _pick(rng, forms), NAMES[thing.name]) if forms else None


def ask_count(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    form = rng.integers(5)
    if form == 0:
        return "count", "How many objects are there?", str(len(things))
    if form == 1:
        digits = sum(t.is_digit for t in things)
        return "count", "How many digits are there?", str(digits)
    if form == 2:
        shapes = sum(not t.is_digit for t in things)
        return "count", "How many shapes are there?", str(shapes)
    # Mostly what is there, so that the answer is not "0" nearly always.
    seen = _pick(rng, things)
    if form == 3:
        colour = seen.colour if rng.random() < 0.75 else int(rng.integers(len(COLOURS)))
        return "count", f"How many {COLOURS[colour]} objects are there?", str(sum(t.colour == colour for t in things))
    name = seen.name if rng.random() < 0.75 and not seen.is_digit else int(rng.integers(len(SHAPES)))
    plural = f"{NAMES[name]}es" if NAMES[name] == "cross" else f"{NAMES[name]}s"
    return "count", f"How many {plural} are there?", str(sum(t.name == name for t in things))


def ask_position(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    thing = _pick(rng, things)
    name = _pick(rng, _names_for(things, thing, "place"))
    return ("position", f"Where is the {name}?", PLACES[thing.quadrant]) if name else None


def ask_is_there(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    """As many "yes" as "no"; half of the absent objects share an attribute with a present one."""
    present = _pick(rng, things)
    colour, name = present.colour, present.name
    wanted = rng.random() < 0.5
    named_by_colour = rng.random() < 0.65
    if not wanted:
        near = rng.random() < 0.5
        if not near or rng.random() < 0.5 or not named_by_colour:
            name = random_name(rng)
        if not near or name == present.name:
            colour = int(rng.integers(len(COLOURS)))
    text = f"{COLOURS[colour]} {NAMES[name]}" if named_by_colour else NAMES[name]
    there = any(t.name == name and (t.colour == colour or not named_by_colour) for t in things)
    if there != wanted:
        return None
    return "is-there", f"Is there {article(text)}?", "yes" if there else "no"


def ask_digit(rng: np.random.Generator, things: list[Thing]) -> Question | None:
    digits = [t for t in things if t.is_digit]
    thing = _pick(rng, digits)
    if thing is None:
        return None
    forms = [f"What digit is at the {PLACES[thing.quadrant]}?"] if _alone(digits, thing) else []
    if _only(digits, lambda t: t.colour == thing.colour):
        forms.append(f"What is the {COLOURS[thing.colour]} digit?")
    if len(digits) == 1:
        forms.append("What digit is there?")
    return ("digit", _pick(rng, forms), NAMES[thing.name]) if forms else None


ASKERS = dict(zip(PICTURE_KINDS, (ask_colour, ask_shape, ask_count, ask_position, ask_is_there, ask_digit)))


def ask_picture(rng: np.random.Generator, things: list[Thing], kind: str, tries: int = 8) -> Question | None:
    """A question of `kind` about the picture, or None where it allows none."""
    for _ in range(tries):
        question = ASKERS[kind](rng, things)
        if question is not None:
            return question
    return None


def clip_caption(clip: Clip) -> str:
    event = clip.event
    if clip.kind == "direction":
        return f"{dense_name(event['subject'])} moves {event['direction']}."
    if clip.kind == "order":
        return f"{dense_name(event['first'])} first, {dense_name(event['last'])} last."
    if event["change"] == "nothing":
        return "nothing changed."
    return f"{dense_name(event['subject'])} {_what_happened(event)}."


def _what_happened(event: dict) -> str:
    before, after = event["subject"], event["after"]
    if event["change"] == "nothing":
        return "nothing"
    if event["change"] == "vanish":
        return "vanished"
    if event["change"] == "colour":
        return f"turned {COLOURS[after.colour]}"
    if event["change"] == "size":
        return "grew" if after.size > before.size else "shrank"
    return f"became {article(NAMES[after.name])}"


def _what_changed(event: dict) -> str:
    if event["change"] == "name":
        return "the digit" if event["subject"].is_digit else "the shape"
    return {"colour": "the colour", "size": "the size", "vanish": "it vanished", "nothing": "nothing"}[event["change"]]


def _subject_name(rng: np.random.Generator, subject: Thing, all_things: list[Thing]) -> str:
    return _pick(rng, _names_for(all_things, subject, "place") or [full_name(subject)])


def ask_direction(rng: np.random.Generator, clip: Clip) -> list[Question]:
    event = clip.event
    things = [event["subject"], *event["others"]]
    name = "object" if len(things) == 1 and rng.random() < 0.3 else _subject_name(rng, event["subject"], things)
    return [("direction", f"Which way does the {name} move?", event["direction"]),
            ("moves", "What moves?", full_name(event["subject"]))]


def ask_order(rng: np.random.Generator, clip: Clip) -> list[Question]:
    first, last = full_name(clip.event["first"]), full_name(clip.event["last"])
    pair = [first, last] if rng.random() < 0.5 else [last, first]
    named = f", the {pair[0]} or the {pair[1]}"
    return [("order", f"Which appears first{named if rng.random() < 0.5 else ''}?", first),
            ("order", f"Which appears last{named if rng.random() < 0.5 else ''}?", last)]


def ask_changed(rng: np.random.Generator, clip: Clip) -> list[Question]:
    event = clip.event
    questions = [("changed", "What changed?", _what_changed(event))]
    # The subject by its first appearance; only where that names one object.
    names = _names_for(event["things"], event["subject"], "place")
    if names:
        questions.append(("changed", f"What happened to the {_pick(rng, names)}?", _what_happened(event)))
    others = [t for t in event["things"] if t is not event["subject"] and _names_for(event["things"], t, "place")]
    if others:
        other = _pick(rng, others)
        name = _pick(rng, _names_for(event["things"], other, "place"))
        questions.append(("unchanged", f"What happened to the {name}?", "nothing"))
    return questions


CLIP_ASKERS = {"direction": ask_direction, "order": ask_order, "changed": ask_changed}


def ask_clip(rng: np.random.Generator, clip: Clip) -> list[Question]:
    """Every question about the clip; those of kind `clip.kind` are the ones that are measured."""
    return CLIP_ASKERS[clip.kind](rng, clip)


def vocabulary_text() -> list[str]:
    """Lines that hold every word the questions and answers use, in each spelling the tokenizer meets."""
    words = {*COLOURS, *NAMES, *SIZES, *(w for p in PLACES for w in p.split()), "object", "objects", "digit", "digits",
             "shape", "shapes", "crosses", *(f"{s}s" for s in SHAPES if s != "cross"), "yes", "no", "nothing", "it",
             "vanished", "turned", "became", "a", "an", "grew", "shrank", "moves", "move", "left", "right", "up",
             "down", "first", "last", "the", "colour", "size", "changed", "appears", "or", "user", "assistant"}
    lines = ["What colour is the", "What shape is at the", "How many are there?", "Where is the", "Is there a",
             "Is there an", "What digit is there?", "Which way does the object move?", "What moves?",
             "Which appears first, the", "Which appears last, the", "What happened to the", "What changed?",
             DESCRIBE_PICTURE, DESCRIBE_CLIP, *DIGITS]
    return [*lines, *sorted(words), *(f" {w}" for w in sorted(words))]
