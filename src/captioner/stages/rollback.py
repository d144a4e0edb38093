"""rollback: aliases and endpoint as the ledger says they were, and proof that it is so. Not a DVC stage.

Restoring an alias restores nothing by itself: the endpoint is changed, and asked which model answers, before anybody is
told that it is done. Knows nothing of AWS.
"""

from __future__ import annotations

from captioner.book import Book
from captioner.errors import BadInput
from captioner.ledger import ALIASES, Cause, differences, to_roll_back_to
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint, Registry
from captioner.stages.moving import Release, share_of
from captioner.stages.promote import Moved


def run(
    params: DeployParams,
    paths: Paths,
    registry: Registry,
    endpoint: Endpoint,
    book: Book,
    cause: Cause,
    to: int | None = None,
) -> Moved:
    """Restore the state before the champion last changed, or the one that entry `to` left.

    A second rollback therefore takes the first one back. Raises BadInput when there is nothing to restore, or when
    that is how it is already, BadData when a version of that time is no longer what it was, WorkspaceBusy when
    somebody else was first, and what the endpoint raises (then everything is as it was).
    """
    release = Release(params, paths, registry, endpoint, book)
    with release.alone():
        left = book.underway()
        # A promotion that was cut short is taken back by this, not finished first.
        finished = release.finish(back=cause if left and left.action == "promote" and to is None else None)
        if finished is not None and (finished.action == "rollback" or finished.failed) and to is None:
            return Moved(release.name, finished, finished)
        now = release.look()
        release.notice(now, cause)
        target, called = to_roll_back_to(book.entries(), to)
        if target.same_aliases(now) and not list(differences(now)):
            raise BadInput(f"{release.name} is already {called}: nothing was changed.")
        for model in target.aliases.values():
            release.version(model.version, model.digest)
        wish = {alias: target.version(alias) for alias in ALIASES}
        evidence = {**release.evidence(target), "restores": called}
        entry = release.move("rollback", cause, now, wish, evidence, share_of(target))
    return Moved(release.name, entry, finished)
