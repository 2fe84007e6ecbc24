"""The backends, which run the network for the engine."""
