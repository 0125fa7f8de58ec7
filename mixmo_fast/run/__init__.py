"""One run, from a configuration to what it leaves: building, training, evaluating, inspecting, showing, exporting."""
