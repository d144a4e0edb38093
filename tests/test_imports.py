"""Imports that go without what is installed: for one thread, for a while, and libraries that then do."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from captioner.imports import without

SCORED = """
import sys
from captioner.metrics import nltk_bleu

print([round(one, 3) for one in nltk_bleu(["a dog runs"], [["a dog runs", "a puppy"]])][:3])
print([name for name in ("sklearn", "scipy", "pandas") if name in sys.modules])
import scipy.stats
"""


def found(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    finally:
        sys.modules.pop(name, None)
    return True


def test_only_this_thread_goes_without_and_only_meanwhile() -> None:
    """Another may be importing scikit-learn for its own work at that moment."""
    with without("wave"):
        with ThreadPoolExecutor(1) as other:
            assert other.submit(found, "wave").result()
        assert not found("wave")
    assert found("wave")


def test_nltk_scores_without_what_it_would_take_along() -> None:
    done = subprocess.run([sys.executable, "-c", SCORED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[100.0, 100.0, 100.0]", "[]"]
