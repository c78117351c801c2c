"""A small text-to-image model and a small SAM of the procedural world, trained from nothing."""
