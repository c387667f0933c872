"""What can go wrong when a plan is exported."""

from impasto.error import UserError


class ExportError(UserError):
    """A plan that cannot be exported so, or a folder that cannot be written, with the reason."""


class NotInFormError(ExportError):
    """A plan or a model that one form does not hold; who asked is then told which ones do."""
