"""What this machine has, and what to run for what is missing."""
