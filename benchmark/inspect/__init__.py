"""Which training images a stored run's biased model found conflicting: ``python -m benchmark.inspect``."""
