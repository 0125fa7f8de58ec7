"""Images on the device and plans -> batches: the readable twin, numba's kernels, AugMix."""
