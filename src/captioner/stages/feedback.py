"""feedback: what users wrote in a caption's place, with the picture that it was about, becomes data to train on.

The corrections come from the log of feedback, the pictures from what data capture kept, joined by the inference id.
They lie in ``data/feedback`` as any folder of pictures does, so that a person can look through them before `acquire`
takes them in. What was collected once does not come again: a row that somebody deleted stays away.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from captioner.errors import BadData, CaptionerError
from captioner.experiment.events import FEEDBACK, Feedback, event_of, last_words
from captioner.images import inspect
from captioner.packs import digest
from captioner.paths import Paths
from captioner.ports import CapturedRequest, Events, Served
from captioner.records import write_bytes, write_text
from captioner.stages.acquire import CAPTIONS

COLLECTED = "collected.txt"
COLUMNS = ("image", "caption", "inference_id", "at")
Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Collected:
    """What is new in `folder`: captions, and pictures that were not there. `waiting`: corrections whose picture was not
    captured, or not yet; `unreadable`: whose request holds no picture; `captions`: how many rows there are in all."""

    folder: str
    new_captions: int
    new_pictures: int
    waiting: int
    unreadable: int
    captions: int

    def render(self) -> str:
        """For a terminal."""
        lines = [
            f"Corrected captions in {self.folder}: {self.captions}, of which new: {self.new_captions}; "
            f"new pictures: {self.new_pictures}."
        ]
        if self.waiting:
            lines.append(f"Corrections of pictures that data capture has not kept, or not yet: {self.waiting}.")
        if self.unreadable:
            lines.append(f"Corrections left out because their requests hold no picture: {self.unreadable}.")
        if self.captions:
            lines.append(f"Look through {self.folder}/{CAPTIONS} (rows that you delete stay away), then: dvc repro")
        return "\n".join(lines)


def collect(paths: Paths, events: Events, served: Served, name: str) -> Collected:
    """Bring new corrections of the endpoint `name` into `paths.feedback`.

    Pictures first, then rows, then what is known: whoever is killed in between loses nothing. Raises BadInput when
    nothing was captured of the endpoint, BadData for a folder that was changed beyond reading.
    """
    folder = paths.feedback
    known = _known(paths)
    said = {one.inference_id: one for one in _corrections(events, name)}
    for id in known:
        said.pop(id, None)
    rows = _rows(paths)
    had, pictures, unreadable = len(rows), {row[0] for row in rows}, 0
    before = len(pictures)
    found = []
    for request in served.requests(name, said) if said else ():
        found.append(request.inference_id)
        picture = _picture(request)
        if picture is None:
            unreadable += 1
            continue
        image, data = picture
        one = said[request.inference_id]
        if image not in pictures:
            write_bytes(folder / image, data)
            pictures.add(image)
        rows.append((image, str(one.correction).strip(), one.inference_id, one.at))
    rows = _each_once(rows)
    if rows and found:  # a table without a row is none that `acquire` would take
        write_text(folder / CAPTIONS, _table(rows))
    if found:
        write_text(folder / COLLECTED, "".join(f"{one}\n" for one in [*known, *found]))
    return Collected(
        folder.relative_to(paths.root).as_posix(),
        new_captions=len(rows) - had,
        new_pictures=len(pictures) - before,
        waiting=len(said) - len(found),
        unreadable=unreadable,
        captions=len(rows),
    )


def _corrections(events: Events, name: str) -> Iterator[Feedback]:
    """The last word of each caption that somebody wrote a better one for."""
    keys = events.keys(FEEDBACK, name, datetime(2000, 1, 1, tzinfo=UTC))
    lines = [event_of(Feedback, line) for some in events.lines(keys) for line in some]
    return (one for one in last_words(lines).values() if one.correction is not None)


def _picture(request: CapturedRequest) -> tuple[str, bytes] | None:
    """The picture in a request as the REST API makes them, bytes or JSON, under a name made of its content."""
    try:
        data = request.body
        if request.content_type.partition(";")[0].strip().lower() == "application/json":
            data = base64.b64decode(json.loads(data)["image"], validate=True)
        kind = inspect(data, "The picture").format
    except (CaptionerError, LookupError, TypeError, ValueError):
        return None
    return f"{digest(data)[:16]}.{'jpg' if kind in ('JPEG', 'MPO') else kind.lower()}", data


def _each_once(rows: list[Row]) -> list[Row]:
    """By picture; of those who wrote the same of one picture, the first."""
    first: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: (row[3], row[2])):
        first.setdefault((row[0], row[1].lower()), row)
    return sorted(first.values(), key=lambda row: (row[0], row[3], row[2]))


def _rows(paths: Paths) -> list[Row]:
    """What lies there, as people may have edited it."""
    file = paths.feedback / CAPTIONS
    if not file.exists():
        return []
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            found = [tuple(row[column] or "" for column in COLUMNS) for row in csv.DictReader(text, strict=True)]
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise BadData(
            f"{file} is not a CSV with the columns {', '.join(COLUMNS)} any more ({error}): mend it."
        ) from None
    return [(image, caption, id, at) for image, caption, id, at in found]


def _table(rows: list[Row]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(rows)
    return out.getvalue()


def _known(paths: Paths) -> list[str]:
    file = paths.feedback / COLLECTED
    return file.read_text(encoding="utf-8").split() if file.exists() else []
