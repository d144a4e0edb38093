"""What is wrong with a caption, by rules that anybody can follow: its words against those of its references.

No model is asked. The rules know the things, colours and numbers of `lexicon` and nothing else, so they are no verdict:
how often each of them also blames a person's caption is reported beside the model's figures. Knows nothing of pictures,
models or files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from captioner.lexicon import SEVERAL, Thing, agree, is_a, things
from captioner.text import tokenize

FAULTS: dict[str, str] = {
    "no words": "the caption is empty",
    "repetition": "the same three words stand in it twice, or a word follows itself",
    "wrong subject": "no reference names what it is about",
    "other kind of person": "man, woman, boy or girl, where the references agree on another",
    "wrong number": "one, two or several, where every reference that says it says another number",
    "wrong colour": "the references give the thing a colour, and none gives it this one",
    "other action": "none of its verbs in -ing is a verb of any reference",
    "named by nobody": "it names a thing that no reference names",
    "left out": "it lacks a thing that three quarters of the references name",
    "length": "more than six words shorter or longer than the references are on average",
    "phrased differently": "no rule contradicts it, and it names what the references name: it may be right",
    "unexplained": "no rule applies",
}
"""Name → what the rule looks at, in the order in which they are asked: the first that applies is the main fault."""

WORDS_APART = 6.0
"""CIDEr multiplies a score by 0.6 or less from here on (its length penalty has a deviation of six)."""

_SHOWN = 3  # words of each kind in a sentence
_NOT_VERBS = """
building buildings clothing railing ring string swing wing king something anything everything nothing morning
evening painting wedding sling pudding spring sibling ceiling awning sting being
during
"""
NOT_VERBS = frozenset(_NOT_VERBS.split())


@dataclass(frozen=True)
class Fault:
    """The name of a rule that applies (a key of FAULTS), and the words that made it apply."""

    kind: str
    text: str


def explain(caption: str, references: Sequence[str]) -> list[Fault]:
    """Every fault that the rules find, the main one first; never empty. `references` are the image's, at least one."""
    said = tokenize(caption)
    if not said:
        return [Fault("no words", "")]
    meant = [tokenize(reference) for reference in references]
    named, by_people = things(said), [things(tokens) for tokens in meant]
    known = [thing for of_reference in by_people for thing in of_reference]
    subject = subject_of(named)
    rules = [
        *_repetition(said),
        *_subject(subject, by_people, known),
        *_number(named, subject, by_people, known),
        *_colour(named, known),
        *_action(said, meant),
        *_named_by_nobody(named, subject, known),
        *_left_out(named, by_people),
        *_length(said, meant),
    ]
    if rules:
        return rules
    shared = [thing.word for thing in named if _known(thing, known)]
    if shared:
        return [Fault("phrased differently", f"it shares {_list(shared)} with the references")]
    return [Fault("unexplained", "no rule knows its words")]


def shares(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of captions that each rule applies to, in FAULTS' order. A caption can have several faults."""
    counts = dict.fromkeys(FAULTS, 0)
    for caption, of_image in zip(captions, references, strict=True):
        for kind in {fault.kind for fault in explain(caption, of_image)}:
            counts[kind] += 1
    return {kind: count / len(captions) for kind, count in counts.items()}


def subject_of(named: Sequence[Thing]) -> Thing | None:
    """What a caption is about: the first person or animal in it, or else the first thing."""
    beings = [thing for thing in named if _is_being(thing)]
    return next(iter([*beings, *named]), None)


def repeats(tokens: Sequence[str], size: int) -> bool:
    """Whether the same `size` words in a row stand in `tokens` more than once."""
    runs = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return len(set(runs)) < len(runs)


def _repetition(said: Sequence[str]) -> list[Fault]:
    for start in range(len(said) - 2):
        run = tuple(said[start : start + 3])
        if any(tuple(said[other : other + 3]) == run for other in range(start + 1, len(said) - 2)):
            return [Fault("repetition", f"says “{' '.join(run)}” twice")]
    doubled = [one for one, other in pairwise(said) if one == other]
    return [Fault("repetition", f"says “{doubled[0]} {doubled[0]}”")] if doubled else []


def _subject(subject: Thing | None, by_people: Sequence[Sequence[Thing]], known: Sequence[Thing]) -> list[Fault]:
    if subject is None or not known:
        return []
    people = [thing for thing in known if is_a(thing.concepts, "person")]
    if not _known(subject, known) and not (people and is_a(subject.concepts, "person")):
        theirs = [found.word for one in by_people if (found := subject_of(one))]
        return [Fault("wrong subject", f"says {subject.word}; people say {_list(theirs)}")]
    if not is_a(subject.concepts, "person") or "person" in subject.concepts:
        return []
    # Whoever says "person" or "player" leaves open who it is; the others must agree on somebody else.
    exact = [thing for thing in people if "person" not in thing.concepts]
    if len(exact) >= 2 and not _known(subject, exact):
        return [Fault("other kind of person", f"says {subject.word}; people say {_list(t.word for t in exact)}")]
    return []


def _number(
    named: Sequence[Thing], subject: Thing | None, by_people: Sequence[Sequence[Thing]], known: Sequence[Thing]
) -> list[Fault]:
    """The subject's number, and every number that is spelled out."""
    for thing in named:
        spelled = 2 <= thing.count < SEVERAL
        if not (thing is subject or spelled) or not _known(thing, known):
            continue
        mine = _counts(thing, named)
        theirs = [count for one in by_people for other in one if _same(thing, other) for count in _counts(other, one)]
        if not any(_fits(count, other) for count in mine for other in theirs):
            told = ", ".join(dict.fromkeys(_number_word(count) for count in theirs))
            return [Fault("wrong number", f"says {_number_word(thing.count)} ({thing.word}); people say {told}")]
    return []


def _counts(thing: Thing, among: Sequence[Thing]) -> set[int]:
    """How many a caption may mean: of the thing itself, and of all its people (or animals): "a man and a woman"."""
    family = next((wide for wide in ("person", "animal") if is_a(thing.concepts, wide)), None)
    if family is None:
        return {thing.count}
    return {thing.count, min(SEVERAL, sum(other.count for other in among if is_a(other.concepts, family)))}


def _fits(one: int, other: int) -> bool:
    return one == other or (SEVERAL in (one, other) and min(one, other) >= 2)


def _number_word(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
    return words[count] if count < len(words) else "several"


def _colour(named: Sequence[Thing], known: Sequence[Thing]) -> list[Fault]:
    for thing in named:
        theirs = [other for other in known if other.colours and _same(thing, other)]
        if thing.colours and theirs and not any(thing.colours & other.colours for other in theirs):
            told = _list(f"{'/'.join(sorted(other.colours))} {other.word}" for other in theirs)
            mine = f"{'/'.join(sorted(thing.colours))} {thing.word}"
            return [Fault("wrong colour", f"says {mine}; people say {told}")]
    return []


def _action(said: Sequence[str], meant: Sequence[Sequence[str]]) -> list[Fault]:
    doing = [word for word in said if word.endswith("ing") and len(word) > 4 and word not in NOT_VERBS]
    theirs = {stem(word) for tokens in meant for word in tokens}
    if not doing or any(stem(word) in theirs for word in doing):
        return []
    return [Fault("other action", f"says {_list(doing)}; no reference has the verb")]


def stem(word: str) -> str:
    """A verb without its ending, roughly: running, runs, run → run; riding, rides → rid."""
    bare = re.sub(r"(?<=..)(ing|ed|es|s|e)$", "", word)
    return bare[:-1] if len(bare) > 3 and bare[-1] == bare[-2] and bare[-1] not in "sl" else bare


def _named_by_nobody(named: Sequence[Thing], subject: Thing | None, known: Sequence[Thing]) -> list[Fault]:
    alone = [thing.word for thing in named if thing is not subject and not _known(thing, known)]
    return [Fault("named by nobody", f"says {_list(alone)}")] if alone else []


def _left_out(named: Sequence[Thing], by_people: Sequence[Sequence[Thing]]) -> list[Fault]:
    enough = max(2, math.ceil(0.75 * len(by_people)))
    missing: list[Thing] = []
    # Whoever is called a man where people say boy is not left out as well.
    somebody = any(is_a(thing.concepts, "person") for thing in named)
    for one in (thing for of_reference in by_people for thing in of_reference):
        if somebody and is_a(one.concepts, "person"):
            continue
        votes = sum(_known(one, of_reference) for of_reference in by_people)
        if votes >= enough and not _known(one, named) and not _known(one, missing):
            missing.append(one)
    return [Fault("left out", f"people say {_list(thing.word for thing in missing)}")] if missing else []


def _length(said: Sequence[str], meant: Sequence[Sequence[str]]) -> list[Fault]:
    mean = sum(map(len, meant)) / len(meant)
    if abs(len(said) - mean) <= WORDS_APART:
        return []
    return [Fault("length", f"has {len(said)} words, the references {mean:.0f} on average")]


def _is_being(thing: Thing) -> bool:
    return is_a(thing.concepts, "person") or is_a(thing.concepts, "animal")


def _same(thing: Thing, other: Thing) -> bool:
    return agree(thing.concepts, other.concepts)


def _known(thing: Thing, among: Iterable[Thing]) -> bool:
    return any(_same(thing, other) for other in among)


def _list(words: Iterable[str]) -> str:
    """The first different words, the most frequent first."""
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda word: -counts[word])
    return ", ".join(ranked[:_SHOWN])
