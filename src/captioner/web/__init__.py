"""The web app, in Streamlit: captions a picture, takes the user's word on it, shows the experiment.

Talks to the REST API only, so it runs anywhere; needs the extra `web` and no AWS credentials.
"""
