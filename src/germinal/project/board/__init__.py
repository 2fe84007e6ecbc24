"""What came of a run, from the ledger alone: the leaderboard, the comparison of two trials and the report."""
