"""From pixels of posed images to features of points, and from several teachers to one feature."""
