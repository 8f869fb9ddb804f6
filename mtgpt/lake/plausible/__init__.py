"""Values that keep every rule and are wrong all the same."""
