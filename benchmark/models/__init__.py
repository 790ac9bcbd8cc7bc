"""Kept models: the networks of a run after the epoch that a rule chose, in files that say what they are.

Nothing of a file is believed before it was held against the run's record, its own digest, and what the network said
when it was kept. Beside it lie its predictions on the test and validation images.
"""
