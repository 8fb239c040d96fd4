"""BAIT and FisherMask, exact and fast, as functions of tensors; `docs/fisher.md` introduces them.

The package's other modules are what these functions and the strategies are made of."""

from fm_al.fisher.library import select_bait, select_fishermask
from fm_al.fisher.options import DesignOptions, FisherMaskOptions

__all__ = ["DesignOptions", "FisherMaskOptions", "select_bait", "select_fishermask"]
