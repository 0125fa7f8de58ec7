"""The random decisions of a training step, and how they mix features."""
