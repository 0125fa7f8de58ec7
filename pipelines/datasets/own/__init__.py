"""A user's own images become a data set: found, split, decoded in parallel, written; memory stays small throughout."""
