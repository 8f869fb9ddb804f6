"""The model: network, checkpoints, forecasts, reconciliation."""
