"""Grids of time by sensor, the format of published research sets, and long tables."""
