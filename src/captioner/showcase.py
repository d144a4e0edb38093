"""What `captioner run` ends with: a few test images, each with both variants' captions and a human's."""

from __future__ import annotations

from captioner.bootstrap import App
from captioner.images import inspect, normalise
from captioner.packs import PackReader
from captioner.records import ImageRecord, read_manifest

IMAGES = 3


def showcase(app: App) -> str:
    """Ask the endpoint, variant by variant. Raises ServiceUnavailable or BadData when it does not answer."""
    endpoint = app.endpoint()
    state = endpoint.state(app.name)
    if state is None:
        return f"There is no endpoint {app.name} yet."
    lines = [f"{app.name} is {state.status}; test images, captioned by each variant:"]
    packs = PackReader(app.paths.raw)
    for record in chosen_images(app):
        image = normalise(packs.read(record), record.id)
        kind = f"image/{inspect(image).format.lower()}"
        lines.append(f"  {record.id}   (a person: {record.captions[0].strip()})")
        for variant in state.variants:
            answer = endpoint.invoke(app.name, image, kind, variant.name)
            lines.append(f"    {answer.variant:<11} {answer.body['caption']}")
    return "\n".join(lines)


def chosen_images(app: App) -> list[ImageRecord]:
    """The first, the middle and the last test image."""
    records = [r for r in read_manifest(app.paths.validated / "manifest.jsonl") if r.split == "test"]
    return [records[i * (len(records) - 1) // max(IMAGES - 1, 1)] for i in range(min(IMAGES, len(records)))]
