"""Ours and the peers on the same work, in turn, in one run. `make bench` or `python -m bench`."""
