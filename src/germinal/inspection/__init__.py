"""A look inside a model: one prompt on its way from text to the next token, as pictures and as a page.

The numbers come from below (`models.inspection`, `generation.distribution`) and the charts from `figures`; here they
meet, and get the words that say how to read them.
"""

from germinal.inspection.inspection import Inspection, inspect
from germinal.inspection.picture import Picture, Section, Table

__all__ = ["Inspection", "Picture", "Section", "Table", "inspect"]
