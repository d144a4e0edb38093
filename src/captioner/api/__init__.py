"""The REST API: an ASGI application before an endpoint, under uvicorn here and in Lambda on AWS.

``application`` has the routes, ``bodies`` and ``pictures`` read what came, ``routing`` asks the endpoint as the
running experiment says, ``exposures`` and ``commits`` write down what users were shown and said, ``identity`` and
``users`` sign, ``fetching`` gets pictures from the web, ``limits`` says no. Knows nothing of models, MLflow, Prefect or
params.yaml, but for the endpoint's name, which a setting may give instead.
"""
