"""What a run folder holds: the names of its files, their records, the lock beside it; without torch."""
