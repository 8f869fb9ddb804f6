"""Roads from OpenStreetMap."""
