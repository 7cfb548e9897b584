"""Models that are given as functions."""
