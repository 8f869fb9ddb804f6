"""Fetching raw files from disks and servers that are not trusted."""
