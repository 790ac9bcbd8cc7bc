"""How fast the loop trains, against other loops and the floor of its operations: ``python -m benchmark.speed``."""
