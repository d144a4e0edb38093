"""What is fast here, and how fast: one module for each goal, its peer beside it, both in one run.

``make bench`` runs them all, ``make bench ARGS="extraction beam"`` some. Each asserts that both sides give the same
output before anything is timed, takes turns (A, B, A, B …), and reports the median of the rounds' ratios with the
smallest and the largest. Absolute times are reported and never asserted.
"""
