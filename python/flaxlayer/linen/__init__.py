"""Linen modules: how they are called, and what becomes of what they write."""
