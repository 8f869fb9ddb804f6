"""Reading hostile bytes: archives, XML, JSON and text behind caps."""
