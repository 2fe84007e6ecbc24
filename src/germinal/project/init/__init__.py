"""A first germinal.toml, proposed from a data file alone."""
