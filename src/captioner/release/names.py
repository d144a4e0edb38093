"""How everything that belongs to an endpoint is called, so that it is recognised, resumed and collected.

Models, configs and alarms are named by what they are: equal content has an equal name. Knows nothing of requests.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

VERSION, DIGEST = "CAPTIONER_MODEL_VERSION", "CAPTIONER_MODEL_DIGEST"  # in a model's environment
LONGEST = 36  # of an endpoint's name in a model's name, which has 63 characters

# Tags of an endpoint
OWNER = "captioner:endpoint"
VERIFIED = "captioner:verified"  # the config whose variants were asked and answered as themselves
EXPIRES, TTL = "captioner:expires", "captioner:ttl-hours"
SHARE = "captioner:share"  # the challenger's, as the last ramp left it
OURS = (OWNER, VERIFIED, EXPIRES, TTL, SHARE)


def base(endpoint: str) -> str:
    """How the names of what belongs to `endpoint` start."""
    return endpoint if len(endpoint) <= LONGEST else f"{endpoint[: LONGEST - 9].rstrip('-')}-{hashed(endpoint)[:8]}"


def model_name(endpoint: str, digest: str, definition: Any) -> str:
    return f"{base(endpoint)}-m-{digest[:12]}-{hashed([endpoint, definition])[:8]}"


def config_name(endpoint: str, content: Any) -> str:
    return f"{base(endpoint)}-c-{hashed([endpoint, content])[:12]}"


def alarm_name(endpoint: str, variant: str, what: str, definition: Any) -> str:
    return f"{base(endpoint)}-a-{variant}-{what}-{hashed([endpoint, definition])[:8]}"


def is_model_of(endpoint: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(base(endpoint))}-m-[0-9a-f]{{12}}-[0-9a-f]{{8}}", name) is not None


def is_config_of(endpoint: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(base(endpoint))}-c-[0-9a-f]{{12}}", name) is not None


def is_alarm_of(endpoint: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(base(endpoint))}-a-[a-z]+-[a-z0-9-]+-[0-9a-f]{{8}}", name) is not None


def archive_key(digest: str) -> str:
    """Where an artifact lies in the bucket: under its digest, uploaded once, never changed."""
    return f"models/{digest}/model.tar.gz"


def capture_prefix(endpoint: str) -> str:
    """Below this the data captured of an endpoint lies: SageMaker itself adds the endpoint's name to `capture`."""
    return f"{CAPTURE}/{endpoint}/"


CAPTURE = "capture"


def experiment_key(endpoint: str) -> str:
    """The document that routers with sticky users read: which share of them meets which variant."""
    return f"experiments/{endpoint}/running.json"


def ended_key(endpoint: str, experiment: str) -> str:
    """The document of an experiment that is over, kept for good."""
    return f"experiments/{endpoint}/{experiment}.json"


def status_key(endpoint: str) -> str:
    """What was last seen of the running or the last experiment, for pages that cannot look."""
    return f"experiments/{endpoint}/status.json"


def models_key(endpoint: str) -> str:
    """Champion and challenger side by side, for pages that reach no registry."""
    return f"experiments/{endpoint}/models.json"


def ledger_prefix(endpoint: str) -> str:
    """Below this lie the ledger's entries, by number, and the claim."""
    return f"ledger/{endpoint}/"


def hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
