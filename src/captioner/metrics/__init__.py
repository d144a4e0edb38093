"""Scores of captions against references: BLEU, CIDEr, ROUGE-L and what they need. All tokenised by `text.tokenize`.

Pure: strings in, numbers out. Knows nothing of models, files or splits, and needs no Java.
"""

from captioner.metrics.bleu import bleu, bleu_from_statistics, bleu_statistics, nltk_bleu
from captioner.metrics.cider import CiderScorer, cider_each
from captioner.metrics.scores import Scorer, Scores, score

__all__ = [
    "CiderScorer",
    "Scorer",
    "Scores",
    "bleu",
    "bleu_from_statistics",
    "bleu_statistics",
    "cider_each",
    "nltk_bleu",
    "score",
]
