"""Doing what the plan says: one step at a time, under a lock, with progress, recorded so that a kill costs little."""
