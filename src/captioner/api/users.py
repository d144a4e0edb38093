"""Who is asking, as a pseudonym: a keyed hash of the caller's own name for the user, or of a token that we signed.

The name itself goes no further than this module. Knows nothing of experiments.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from itsdangerous import BadSignature, Signer

from captioner.api.faults import ApiError
from captioner.api.identity import derived

USER_HEADER, TOKEN_HEADER, COOKIE = "x-user-id", "x-user-token", "captioner_user"
LONGEST = 128
COOKIE_S = 365 * 24 * 3600


@dataclass(frozen=True)
class User:
    """`pseudonym` is what is logged. `token` is what an anonymous user comes back with; `new` when it was made now."""

    pseudonym: str
    token: str | None = None
    new: bool = False


class Users:
    """Recognises users by headers and cookie."""

    def __init__(self, secret: bytes) -> None:
        self._key = derived(secret, "users")
        self._signer = Signer(derived(secret, "anonymous users"), digest_method=sha256)

    def of(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> User:
        """The user that a request names, a known anonymous one, or a new one. Raises ApiError for a name too long.

        A token that is not ours is no error: it may be older than the secret, and its user is a new one.
        """
        named = headers.get(USER_HEADER, "")
        if len(named) > LONGEST:
            raise ApiError(400, "bad_user", f"X-User-Id has {len(named)} characters; at most {LONGEST} are taken.")
        if named.strip():
            return User(self._pseudonym("named", named))
        for token in (headers.get(TOKEN_HEADER), cookies.get(COOKIE)):
            if token and (who := self._unsigned(token)):
                return User(self._pseudonym("anonymous", who), token)
        who = secrets.token_urlsafe(16)
        return User(self._pseudonym("anonymous", who), self._signer.sign(who).decode(), new=True)

    def _unsigned(self, token: str) -> str | None:
        try:
            return self._signer.unsign(token).decode()
        except (BadSignature, UnicodeError):
            return None

    def _pseudonym(self, kind: str, who: str) -> str:
        return hmac.new(self._key, f"{kind}:{who}".encode(), "sha256").hexdigest()[:32]
