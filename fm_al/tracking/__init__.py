"""Weights & Biases, as a view of a run's records.

The records are the truth. What W&B holds can be rebuilt from them at any time, so a tracker may
fail without harm: it warns once and the run continues.
"""

from fm_al.tracking.tracker import NoTracker, Tracker
from fm_al.tracking.wandb_tracker import WandbTracker

__all__ = ["NoTracker", "Tracker", "WandbTracker"]

for public in (NoTracker, Tracker, WandbTracker):
    public.__module__ = __name__  # as configurations and error messages name them
