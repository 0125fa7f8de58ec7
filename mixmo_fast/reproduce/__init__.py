"""From one command to the paper's tables: what to run, running it through anything, and what came out."""
