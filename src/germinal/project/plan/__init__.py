"""What a run would do: its trials, the graph of their steps, which of them are cached, and what the others cost."""
