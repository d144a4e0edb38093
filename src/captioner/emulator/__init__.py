"""A SageMaker for one machine: AWS's API over HTTP, state on disk, every instance of a variant a real process.

``__main__`` starts it; ``front`` sends each request to the handlers here, to the S3 (``objects``) or to moto. The real
AWS is the model for names, states and errors; roles and quotas are not checked. Knows nothing of captions: an
instance is any program that keeps the container contract.
"""
