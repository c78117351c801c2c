"""Indoor scenes with known labels, to train on."""
