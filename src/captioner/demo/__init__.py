"""The whole loop as a story: two models, an endpoint, simulated users at the REST API, a verdict, a promotion.

Everything in it is the real thing but the users. It has a folder and a local stack of its own, ``.captioner/demo``.
"""
