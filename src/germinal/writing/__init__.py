"""Text in, text out over the engine: requests, the texts that they grow into, and scores of given continuations."""
