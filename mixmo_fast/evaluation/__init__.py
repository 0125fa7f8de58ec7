"""Metrics and evaluation of trained networks."""
