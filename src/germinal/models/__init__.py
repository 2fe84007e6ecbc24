"""The Transformer, its config, and the families as data."""
