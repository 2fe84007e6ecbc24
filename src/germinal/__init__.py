"""germinal: from a narrow use case to a measured, tuned and served language model."""

__version__ = "0.1.0"
