"""Great Expectations: runs rules over frames, and leaves a site that shows what came of them."""

from captioner.expectations.suite import Expectations

__all__ = ["Expectations"]
