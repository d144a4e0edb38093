"""What the API signs with, where a setting says: the text itself, or the ARN of a secret in AWS Secrets Manager."""

from __future__ import annotations

import re

_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:.+")


def revealed(given: str) -> str:
    """`given`, or what the secret with that ARN holds. Raises BadEnvironment, ServiceUnavailable."""
    found = _ARN.fullmatch(given)
    if found is None:
        return given
    from captioner.adapters.aws import Account, in_our_words

    where = Account(None, found[1], "", "", "")
    with in_our_words(where, "read the API's secret"):
        return str(where.client("secretsmanager").get_secret_value(SecretId=given)["SecretString"])
