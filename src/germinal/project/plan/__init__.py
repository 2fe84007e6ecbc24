"""What a run will do, before anything is done: trials, the graph of their steps, which are cached, what they cost."""
