"""Training: recipes, batches, the loop."""
