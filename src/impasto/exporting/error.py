"""What can go wrong when a plan is exported."""

from impasto.error import UserError


class ExportError(UserError):
    """A plan that cannot be exported so, or a folder that cannot be written, with the reason."""
