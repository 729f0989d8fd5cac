"""What outlives a run: finished checks, runs and baselines, as data that is never unpickled."""
