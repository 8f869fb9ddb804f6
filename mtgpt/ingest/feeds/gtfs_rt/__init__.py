"""GTFS-Realtime."""
