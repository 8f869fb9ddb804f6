"""Patches of series as tokens."""
