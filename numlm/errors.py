"""Errors that a user can mend."""


class OptionsError(ValueError):
    """Options that do not go together; the message is one sentence for users."""
