"""Training students: data, augmentation, losses and the loop."""
