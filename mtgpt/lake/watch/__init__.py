"""Live feeds, polled."""
