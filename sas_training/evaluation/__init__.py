"""Label sets, metrics and reports."""
