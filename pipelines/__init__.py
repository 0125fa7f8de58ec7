"""From original files to batches on the device."""
