"""A look inside a model: one prompt from its text to the next token, as pictures and as a page.

The numbers come from `models.inspection` and `generation.distribution`, the charts from `figures`; this package
combines them and adds the captions.
"""

from germinal.inspection.inspection import Inspection, inspect
from germinal.inspection.picture import Picture, Section, Table

__all__ = ["Inspection", "Picture", "Section", "Table", "inspect"]
