"""Measurements; `bench.py` is the entry."""
