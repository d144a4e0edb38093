"""The script that Streamlit runs: ``captioner web`` does, and so does any host that knows ``streamlit run``.

Reads CAPTIONER_WEB_API and CAPTIONER_WEB_KEY, nothing else.
"""

from __future__ import annotations

import os

import streamlit as st

from captioner.web import caption_page, experiment_page, models_page
from captioner.web.client import Client


def main() -> None:
    """Draw the page that was asked for."""
    st.set_page_config(page_title="Tell me about the image", page_icon=":material/image_search:", layout="centered")
    client = Client(
        os.environ.get("CAPTIONER_WEB_API", "http://127.0.0.1:8000"),
        os.environ.get("CAPTIONER_WEB_KEY", ""),
        st.session_state.get("token", ""),
    )
    pages = [
        st.Page(lambda: caption_page.show(client), title="Caption", url_path="caption", default=True),
        st.Page(lambda: experiment_page.show(client), title="Experiment", url_path="experiment"),
        st.Page(lambda: models_page.show(client), title="Models", url_path="models"),
    ]
    st.navigation(pages, position="top").run()
    # Who the API takes this user for: the same variant answers for as long as the page is open.
    st.session_state["token"] = client.token


if __name__ == "__main__":
    main()
