"""One adapter per family of feeds."""
