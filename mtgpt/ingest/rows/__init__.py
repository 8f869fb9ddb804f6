"""What many feeds have in common on their way to contract rows: places, times, units, marks."""
