"""Performance figures, printed by `python -m benchmarks NAME` and kept as JSON. No test depends on them."""
