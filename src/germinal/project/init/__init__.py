"""A first germinal.toml, made from what a data file shows."""
