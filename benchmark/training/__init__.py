"""The common loop: trains any method on any dataset, measures it, and can be killed and resumed at any time."""
