"""Training what has no record yet: one process or several, and a look at everything beforehand."""
