"""What follows from rows that landed."""
