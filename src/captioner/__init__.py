"""captioner: train, judge, release and compare image captioners."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("captioner")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0"
