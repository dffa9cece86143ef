"""Questions asked of finished runs: which is better, does it memorize, whom does it show."""
