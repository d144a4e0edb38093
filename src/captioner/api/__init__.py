"""The REST API in front of the endpoint: one ASGI application, under uvicorn here and in Lambda on AWS.

Needs the extra `api`: no TensorFlow, no MLflow, no pipeline.
"""
