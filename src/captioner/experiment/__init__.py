"""A/B experiments on users: who meets which variant, what they are shown and say, and what follows from it.

Pure: values in, values out. Knows nothing of S3, HTTP, MLflow or Prefect.
"""
