"""DATEX II v3 and v2.3."""
