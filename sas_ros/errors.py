"""The one exception that reaches a user: its message is a sentence that says what to do."""

from __future__ import annotations


class SasError(ValueError):
    """Something the user can put right; the message says what was wrong, where, and what to do."""
