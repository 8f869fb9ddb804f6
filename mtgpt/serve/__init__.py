"""Forecasts for eyes and programs."""
