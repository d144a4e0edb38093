"""The page that captions: a picture from a file, a URL or the camera; its caption, why, and the user's word on it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import streamlit as st

from captioner.errors import CaptionerError
from captioner.explaining import Looks, draw
from captioner.images import normalise
from captioner.web.client import Client

KINDS = ["jpg", "jpeg", "png", "webp"]
EXAMPLES = Path(__file__).parent / "examples"


def show(client: Client) -> None:
    """Draw the page."""
    st.title("Tell me about the image")
    st.write("Give a picture; a model says what it sees. Tell it how well it did: that decides which model stays.")
    files, ready, link, camera = st.tabs(["From a file", "An example", "From a URL", "From the camera"])
    with files:
        for number, file in enumerate(
            st.file_uploader("Pictures (JPEG, PNG or WebP, 4 MB each)", KINDS, accept_multiple_files=True) or []
        ):
            _answer(client, f"file-{number}", file.getvalue(), file.name)
    with ready:
        examples = {file.stem: file for file in sorted(EXAMPLES.glob("*.jpg"))}
        chosen = st.pills("Pictures that come with the app", examples, format_func=str.capitalize)
        if chosen:
            _answer(client, "example", examples[chosen].read_bytes(), chosen)
    with link:
        with st.form("link", border=False):
            url = st.text_input("Address of a picture", placeholder="https://…")
            asked = st.form_submit_button("Caption it")
        if asked:
            st.session_state["url"] = url.strip()
        if st.session_state.get("url"):
            _answer(client, "url", None, st.session_state["url"])
    with camera:
        if st.toggle("Use the camera"):
            taken = st.camera_input("Take a picture")
            if taken:
                _answer(client, "camera", taken.getvalue(), "from the camera")


def _answer(client: Client, place: str, picture: bytes | None, name: str) -> None:
    """The picture and everything about its caption; asked for once, however often the page is drawn."""
    key = f"answer-{hashlib.sha256(picture or name.encode()).hexdigest()}"
    if key not in st.session_state:
        try:
            with st.spinner("Looking …"):
                found = client.caption(picture) if picture is not None else client.caption_url(name)
        except CaptionerError as error:
            st.error(f"{name}: {error}")
            return
        st.session_state[key] = found
    found = st.session_state[key]
    st.image(picture if picture is not None else name, width="stretch")
    st.subheader(found["caption"], anchor=False)
    st.code(found["caption"], language=None, wrap_lines=True)
    model = found["model"]
    st.caption(
        f"Model version {model.get('version') or 'unknown'} ({found['variant']}), {found['endpoint_ms']:.0f} ms"
        + ("; the model that was meant for you was not there, so the champion answered" if found["fallback"] else "")
    )
    _feedback(client, place, found)
    _alternatives(found)
    if picture is not None and found["attention"]:
        _attention(picture, found)


def _feedback(client: Client, place: str, found: dict[str, Any]) -> None:
    inference_id = found["inference_id"]
    rating = st.radio(
        "How good is this caption?",
        [1, 2, 3, 4, 5],
        index=None,
        horizontal=True,
        format_func=lambda stars: f"{stars} {'★' * stars}",
        key=f"rating-{place}-{inference_id}",
    )
    said = f"said-{place}-{inference_id}"
    if rating is not None and st.session_state.get(said) != rating:
        if _say(client, inference_id, rating=rating):
            st.session_state[said] = rating
            st.success("Thank you: your rating counts.")
    elif rating is not None:
        st.success("Thank you: your rating counts.")
    with st.form(f"correct-{place}-{inference_id}", border=False):
        better = st.text_input("A better caption", value=found["caption"], max_chars=300)
        if st.form_submit_button("Send the correction"):
            if better.strip() == found["caption"]:
                st.info("Change the caption first, then send it.")
            elif _say(client, inference_id, correction=better):
                st.success("Thank you: your caption was stored.")


def _say(client: Client, inference_id: str, **said: Any) -> bool:
    try:
        client.say(inference_id, **said)
    except CaptionerError as error:
        st.error(str(error))
        return False
    return True


def _alternatives(found: dict[str, Any]) -> None:
    with st.expander("What else it might be"):
        rows = [{"caption": one["caption"], "probability": one["probability"]} for one in found["captions"]]
        st.dataframe(
            rows, hide_index=True, column_config={"probability": st.column_config.NumberColumn(format="percent")}
        )


def _attention(picture: bytes, found: dict[str, Any]) -> None:
    with st.expander("Where it looked for each word"):
        looked = found["attention"]
        looks = Looks(found["caption"], looked["words"], looked["weights"], looked["looked_away"])
        st.image(draw(normalise(picture), looks), caption=f"Where the model looked for: {found['caption']}")
