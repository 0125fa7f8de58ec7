"""Whatever comes in: no traceback, no silent change, no file lost. Thousands of inputs that try to show otherwise."""
