"""What commands show: two consoles, tables, the progress of long work, the leaderboard and the comparison."""
