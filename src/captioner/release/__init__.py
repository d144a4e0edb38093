"""What a release is, computed: from what is wanted and what is live to the API calls between them.

Pure: values in, values out. No call, no clock, no file but the price table; knows nothing of boto3 or MLflow.
"""
