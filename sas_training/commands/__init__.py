"""The `sas` verbs of the offline half."""
