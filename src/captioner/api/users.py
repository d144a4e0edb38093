"""Who is asking: a name that the client gives, or an anonymous one in a signed token; in the logs a pseudonym.

Knows nothing of HTTP: whoever calls it reads headers and sets cookies.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeSerializer

from captioner.api.refusals import Refusal

LONGEST = 128


@dataclass(frozen=True)
class Caller:
    """`pseudonym`: in logs and assignment. `token`: what an anonymous caller sends back, None for a named one."""

    pseudonym: str
    token: str | None = None


def caller(secret: str, name: str | None, token: str | None) -> Caller:
    """The caller who gave `name`, or who sent `token` back; a new anonymous one for neither, or for a forged token."""
    if name:
        if len(name) > LONGEST:
            raise Refusal(400, "bad_user", f"X-User-Id has {len(name)} characters; {LONGEST} at most are taken.")
        return Caller(_pseudonym(secret, "named", name))
    signer = URLSafeSerializer(secret, salt="captioner-user")
    try:
        known = signer.loads(token) if token else None
    except BadSignature:
        known = None
    anonymous = known if isinstance(known, str) else secrets.token_hex(16)
    return Caller(_pseudonym(secret, "anonymous", anonymous), str(signer.dumps(anonymous)))


def _pseudonym(secret: str, kind: str, name: str) -> str:
    key = hashlib.sha256(secret.encode()).digest()
    return hashlib.blake2b(f"{kind}:{name}".encode(), key=key, digest_size=16).hexdigest()
