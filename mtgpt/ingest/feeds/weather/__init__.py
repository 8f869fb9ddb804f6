"""Weather reports and archives."""
