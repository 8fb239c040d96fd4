"""The old name of a job's module, which jobs that a SLURM queue holds from before ask for."""

from fm_al.launch.job import Job

__all__ = ["Job"]
