"""Caltrans PeMS."""
