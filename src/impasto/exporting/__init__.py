"""Plans as folders that others load: ordinary checkpoints, or weights with a modeling file."""

from impasto.exporting.error import ExportError
from impasto.exporting.writing import Exported, export

__all__ = ["ExportError", "Exported", "export"]
