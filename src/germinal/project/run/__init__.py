"""Doing what the plan says: the runner, one step at a time, under a lock, with progress, and what came of it."""
