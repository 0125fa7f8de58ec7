"""Measurements anyone can repeat; what they found is in `benchmarks/results/`."""
