"""Measurements: ours, the alternative where there is one, and the physical floor, in one run."""
