"""The one error of this room."""


class ExportError(ValueError):
    """A checkpoint or a destination that cannot be exported; the text says what to change."""
