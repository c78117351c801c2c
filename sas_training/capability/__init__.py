"""How well each 2D teacher knows each class, measured without annotations."""
