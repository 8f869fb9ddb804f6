"""The simulated city: its streets, its sky, its traffic, and the departments that publish them."""
