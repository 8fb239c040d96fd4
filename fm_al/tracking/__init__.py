"""Weights & Biases, as a view of a run's records."""

from fm_al.tracking.wandb_run import NoTracker, Tracker, WandbTracker

__all__ = ["NoTracker", "Tracker", "WandbTracker"]
