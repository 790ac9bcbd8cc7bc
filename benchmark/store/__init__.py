"""The results folder: typed records, written atomically, who trains a run, and what has become of each."""
