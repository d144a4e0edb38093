"""The golden images: photos that scikit-image ships, replayed through every artifact before it is trusted."""

from __future__ import annotations

from importlib.resources import files

NAMES = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")


def golden_images() -> dict[str, bytes]:
    """Name → encoded image. They are read from the installed package, without importing it whole."""
    folder = files("skimage.data")
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).is_file()}
