"""The old name of a job's module, which pickles in a SLURM queue from before ask for."""

from fm_al.launch.job import Job, Limits

__all__ = ["Job", "Limits"]
