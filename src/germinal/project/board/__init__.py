"""What came of a run, from the ledger alone: the leaderboard, the comparison of two trials, the report, their words."""
