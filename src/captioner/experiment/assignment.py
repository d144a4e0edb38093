"""Which variant a user meets: a salted hash of the experiment and the user, so that nothing has to be remembered.

A user has one place between 0 and 1 in each experiment; whoever is below the challenger's share meets the challenger. A
growing share therefore moves users from champion to challenger only, and the places of two experiments tell nothing of
each other.
"""

from __future__ import annotations

import hashlib

from captioner.experiment.document import Experiment
from captioner.ledger import CHALLENGER, CHAMPION

_SPAN = float(2**53)  # as many places as a double tells apart


def place(salt: str, experiment: str, user: str) -> float:
    """Where `user` stands in the experiment: uniform over [0, 1), always the same."""
    said = f"{len(experiment)}:{experiment}{user}".encode()
    digest = hashlib.blake2b(said, digest_size=8, key=salt.encode()[: hashlib.blake2b.MAX_KEY_SIZE]).digest()
    return (int.from_bytes(digest, "big") >> 11) / _SPAN


def assigned(experiment: Experiment, user: str) -> str:
    """The variant that `user` meets: champion or challenger."""
    below = place(experiment.salt, experiment.id, user) < experiment.share
    return CHALLENGER if below else CHAMPION
