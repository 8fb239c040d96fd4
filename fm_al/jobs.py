"""Old import path of `fm_al.launch.job`, for jobs that an earlier version queued."""

from fm_al.launch.job import Job, Limits

__all__ = ["Job", "Limits"]
