"""The page of the models: champion and challenger, their scores side by side, captions of theirs that differ."""

from __future__ import annotations

import base64
from typing import Any

import streamlit as st

from captioner.errors import CaptionerError
from captioner.ledger import ALIASES, CHALLENGER, CHAMPION
from captioner.web.client import Client

SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
    "distinct": "distinct captions",
    "mean_words": "words a caption",
}
SHARES = ("distinct",)


def show(client: Client) -> None:
    """Draw the page."""
    st.title("Models")
    try:
        found = client.models()
    except CaptionerError as error:
        st.error(str(error))
        return
    models = found["models"]
    if not models:
        st.info("Nothing has been deployed yet. `captioner run` trains, judges and deploys two models.")
        return
    st.caption(f"As of {found['as_of']}. What the gate said is in the registry, what users say on the page Experiment.")
    st.table(side_by_side(models))
    if CHALLENGER not in models:
        st.info("There is no challenger: the champion answers everybody.")
        return
    st.subheader("Captions that differ", anchor=False)
    if not found["compared"]:
        st.info("What the two said of the same test images is not in the registry.")
        return
    st.write(
        f"They disagree on {found['differ']} of {found['compared']} test images. "
        f"Here are {len(found['gallery'])} of those, chosen by chance."
    )
    for one in found["gallery"]:
        _difference(one)


def side_by_side(models: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What is shown of each model, by column: who it is, what the gate said, its scores on the test set."""
    return {
        f"{alias} (version {models[alias]['version']})": {
            "gate": models[alias].get("gate", "–"),
            "experiment": models[alias].get("experiment", "–"),
            **{label: _figure(models[alias].get("test", {}), name) for name, label in SCORES.items()},
            "artifact": models[alias]["digest"][:12],
            "run": models[alias].get("run", "–"),
        }
        for alias in ALIASES
        if alias in models
    }


def _figure(test: dict[str, str], name: str) -> str:
    if name not in test:
        return "–"
    value = float(test[name])
    return f"{value:.0%}" if name in SHARES else f"{value:.1f}"


def _difference(one: dict[str, Any]) -> None:
    with st.container(border=True):
        left, right = st.columns([1, 2])
        with left:
            if one["picture"]:
                st.image(base64.b64decode(one["picture"]), caption=one["id"])
            else:
                st.write(one["id"])
        with right:
            st.markdown(f"**champion**  \n{one[CHAMPION]}")
            st.markdown(f"**challenger**  \n{one[CHALLENGER]}")
            if one["people"]:
                st.markdown(f"**a person**  \n{one['people'][0]}")
