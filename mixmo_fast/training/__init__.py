"""The training loop, its step, its schedule and what it leaves on disk."""
