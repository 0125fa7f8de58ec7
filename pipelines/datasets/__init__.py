"""Data sets: their originals, their converted folders, and test images under corruptions."""
