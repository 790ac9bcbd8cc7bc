"""The benchmark: plans runs, trains them in one common loop, stores records, renders tables and figures."""
