"""Measured numbers held against the paper's: cells, claims and their verdicts, distances, readings."""
