"""Text in, text out over the engine: requests, the texts that grow from them, and scores of given continuations."""
