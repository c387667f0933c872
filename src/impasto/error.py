"""The one exception for a user's mistake: what was wrong, and what would be right.

Every layer may raise it (or a subclass that says where); the command line prints its message and
exits with 2. Anything else that reaches the command line is a fault of impasto's own.
"""


class UserError(ValueError):
    """Something that the user gave cannot work; the message says what and what would."""
