"""GTFS timetables."""
