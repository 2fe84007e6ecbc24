"""The backends: what runs the network for the engine, one file each."""
