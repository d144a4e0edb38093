"""A shipped model's card for people: what ``card.json`` says, as a page in prose and tables.

Pure: a card in, Markdown out; every figure on the page is the card's. Knows nothing of models or files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Card = Mapping[str, Any]

SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
    "brevity": "brevity",
    "mean_words": "mean words",
    "distinct": "distinct captions",
}
WORDS = ("man", "woman", "boy", "girl", "child", "person")
WORLDS = {
    "flickr8k": "people and dogs in action, sports, children, streets, beaches, chosen from a few groups of Flickr's "
    "users"
}
DATA_TERMS = {
    "flickr8k": (
        "Flickr8k (Hodosh, Young and Hockenmaier 2013): photos of Flickr's users, captions written by crowd workers. "
        "The dataset was released for non-commercial research and education, and the photos belong to those who took "
        "them; none of them is in this repository. Whether weights learned from it may serve anything else is not for "
        "this page to say: ask somebody who knows before a commercial use."
    ),
    "folder": "Somebody's own pictures: their terms are their owner's.",
}


def render(card: Card) -> str:
    """The page."""
    report, name = card["reports"]["evaluate"], card["dataset"]["name"]
    scores = report["scores"]
    parts = [
        f"# The shipped model: `{card['candidate']}`, trained on {name}",
        "What `captioner caption photo.jpg` uses until a model of your own is champion. "
        f"A {'tuned' if _tuned(card) else 'frozen'} convolutional network "
        f"({card['encoder']['encoder']}) sees the picture{_both_ways(card)}, {_writers(card)} a sentence in "
        f"English{_rated(card)}.",
        f"On the {report['images']:,} images of {name}'s {report['split']} split: **BLEU-4 {scores['bleu_4']:.1f}, "
        f"CIDEr {scores['cider']:.1f}**. `card.json` has everything on this page, and more, for machines.",
        "## What it is for",
        "Short descriptions of everyday photos: drafts of alternative texts that a person checks, search in one's own "
        "pictures, a baseline to beat, and a look at how such a system works. Not for decisions about people, not for "
        "telling who somebody is, and not where a wrong sentence does harm: it is wrong often, and never says so.",
        "## Scores",
        _score_table(card),
        f"Protocol: {report['protocol']}.",
        "Tuned on dev, reported on test. "
        f"{_percent(report['copied'])} of the captions stand word for word in the training captions.",
        "## Slices",
        "Each slice is a part of the test split, by what is known of it without any model.",
        _slice_table(report),
        *_faults(report),
        "## How it speaks of people",
        _people(card),
        "## Limits",
        _limits(card),
        "## Data",
        _data(card),
        "## How it was made",
        _made(card),
        "## Licences",
        _licences(card),
    ]
    return "\n\n".join(parts) + "\n"


def _both_ways(card: Card) -> str:
    return " and its mirror image" if card["export"].get("flip") else ""


def _writers(card: Card) -> str:
    """Who writes: the candidate's network, as params.yaml has it, or several of them."""
    network = card["params"]["decoders"][card["candidate"]]
    names = sorted(network, key=lambda name: (name != "kind", name))
    described = ", ".join(f"{name} {network[name]}" for name in names if not isinstance(network[name], Mapping))
    members = network.get("members", 1)
    if members == 1:
        return f"an LSTM ({described}) writes"
    own = ", each behind an end of the encoder that was tuned with it," if _tuned(card) else ""
    return f"{members} LSTMs ({described}){own} together write"


def _rated(card: Card) -> str:
    """What no sentence may say, and who has a say in which it is."""
    once, neighbours = (card["export"].get(name, 0) for name in ("no_repeat_ngram_size", "neighbours"))
    said = f", in which no {once} words in a row are said twice" if once else ""
    if not neighbours:
        return said
    return said + (
        f"; of the likeliest, that is the one which agrees best with what people wrote of the {neighbours} training "
        "pictures that look most alike"
    )


def _score_table(card: Card) -> str:
    report = card["reports"]["evaluate"]
    columns = {"this model": report["scores"]}
    if report.get("dev"):
        columns["on dev"] = report["dev"]
    columns["nearest neighbour"] = report["baseline"]
    if report.get("human"):
        columns["a person (leave one out)"] = report["human"]
    rows = [
        [text, *(_figure(one.get(key)) for one in columns.values())]
        for key, text in SCORES.items()
        if any(key in one for one in columns.values())
    ]
    table = _table([f"{report['split']}, {report['images']:,} images", *columns], rows)
    dev = card["metrics"].get("dev_greedy")
    if not dev or report.get("dev"):
        return table
    known = ", ".join(f"{text} {_figure(dev[key])}" for key, text in SCORES.items() if key in dev)
    who = "its best member" if "members" in card["seeds"] else "it"
    return f"{table}\n\nOn dev, greedy, as training saw {who} at the best epoch ({dev.get('epoch')}): {known}."


def _slice_table(report: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{one['images']:,}", _figure(one["cider"]), _figure(one["bleu_4"])]
        for name, one in report["slices"].items()
    ]
    return _table(["slice", "images", "CIDEr", "BLEU-4"], rows)


def _faults(report: Mapping[str, Any]) -> list[str]:
    """A section on what the fault rules found; none where the report has none."""
    faults = report.get("faults")
    if not faults:
        return []
    rows = [[name, _percent(one["captions"]), _percent(one["people"])] for name, one in faults.items()]
    return [
        "## What is wrong with its captions",
        "The share of captions that a rule finds fault with, beside the share of people's own captions, held against "
        "the others of their image. The rules know some words and see no picture: they find less than a reader would, "
        "and are sometimes wrong.",
        _table(["fault", "this model", "people"], rows),
    ]


def _people(card: Card) -> str:
    people = card["people"]
    words = [name for name in WORDS if name in people["words"]] + sorted(people["words"].keys() - set(WORDS))
    rows = [[name, *(_percent(people["words"][name][who]) for who in ("model", "references"))] for name in words]
    rows += [
        [f"*{name}*", _percent(one["model"]), _percent(one["references"])] for name, one in people["remarks"].items()
    ]
    agreed = []
    for name, other in (("male", "female"), ("female", "male")):
        one = people["gender"][name]
        if one["images"]:
            agreed.append(
                f"- Of {one['images']:,} images whose references agree on {name}, it says {name} of "
                f"{_percent(one['same'])}, {other} of {_percent(one['opposite'])}, both of {_percent(one['both'])}, "
                f"and neither of {_percent(one['neither'])}."
            )
    parts = [
        "Measured on its own captions of the test split. The share of captions that have a word for …, and (in "
        "italics) a remark on skin or age directly before a word for people:",
        _table(["", "this model", "references"], rows),
        "\n".join(agreed),
        "It takes gender and age from looks, as those who wrote the captions did, and where it cannot see them it says "
        "what is most frequent. Nobody in the photos was asked: read such a word as a guess. Who is rare in the "
        "training photos is described worse; how much worse was not measured, since the dataset does not say who is in "
        "them.",
    ]
    return "\n\n".join(part for part in parts if part)


def _limits(card: Card) -> str:
    world = WORLDS.get(card["dataset"]["name"])
    size = card["encoder"]["image_size"]
    return (
        f"It knows the world of its training photos{f' ({world})' if world else ''}, and describes whatever else it is "
        "shown as something from there. It counts badly, guesses colours, cannot read, names nobody, and may repeat "
        f"itself. It has {card['reports']['train']['vocabulary']:,} words. Pictures are stretched to {size}x{size} "
        "pixels, so small things are lost. A log probability says how usual a sentence is, not how true."
    )


def _data(card: Card) -> str:
    data = card["dataset"]
    splits = ", ".join(
        f"{split} {count:,} images with {data['captions'][split]:,} captions" for split, count in data["images"].items()
    )
    sums = _table(["", "SHA-256"], [[f"`{name}`", f"`{value}`"] for name, value in data["manifests"].items()])
    words = card["params"]["train"].get("min_count")
    rare = f" Words that occur less than {words} times there are unknown to it." if words and words > 1 else ""
    return (
        f"{data['name']}, its own splits: {splits}. Training saw `train` alone, the vocabulary included.{rare} Every "
        f"row of a manifest has its picture's digest and its captions, so these stand for all of it:\n\n{sums}"
    )


def _tuned(card: Card) -> bool:
    """Did the encoder learn too?"""
    return "encoder.npz" in card["files"]


def _made(card: Card) -> str:
    git, made = card["git"], card["artifact"]
    commit = f"commit `{git['sha']}`" if git["sha"] else "no commit that is known"
    seeds = ", ".join(f"`{name}` {_listed(value)}" for name, value in card["seeds"].items())
    lines = "\n".join(card["commands"])
    export = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card["export"].items())
    beside = {
        "encoder.npz": "those of the encoder that were tuned with it",
        "memory.npz": "what was written of the training pictures, as hashed n-grams with weights",
    }
    held = ", ".join(
        ["the decoder's weights (`weights.npz`)"]
        + [f"{what} (`{name}`)" for name, what in beside.items() if name in card["files"]]
    )
    rest = "the rest of the encoder comes" if _tuned(card) else "the encoder comes"
    return (
        f"With {commit}, TensorFlow {made['tensorflow']}, Keras {made['keras']}. Seeds: {seeds}. Decoding: {export}. "
        f"All params are in `card.json`.\n\n```sh\n{lines}\n```\n\n"
        f"Git holds {held}, without a pickle; {rest} from its package. The "
        "artifact, encoder and beam search included, is put together on first use. The one that these scores are of "
        f"has the SHA-256 `{made['digest']}`; the same TensorFlow gives the same bytes, and `captioner caption --json` "
        "says which one answered."
    )


def _licences(card: Card) -> str:
    encoder = card["encoder"]
    source = (
        f"from the package `{encoder['package']}` ({encoder['license']})"
        if encoder["package"]
        else "as keras.applications downloads them, under their authors' terms"
    )
    copied = "Its last blocks were tuned, the others are" if _tuned(card) else "They are"
    data = DATA_TERMS.get(card["dataset"]["name"], "See the dataset.")
    return (
        "- Code and, as far as they are ours, the decoder's weights: Apache-2.0.\n"
        f"- Encoder: {encoder['encoder']}, ImageNet weights, {source}. {copied} not copied here.\n"
        f"- Data: {data}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "–" if value is None else json.dumps(value)
