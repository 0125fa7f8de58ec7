"""Configuration: what a run is, as checked, frozen values. Imports no torch."""
