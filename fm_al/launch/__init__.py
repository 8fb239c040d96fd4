"""What a sweep adds: its plan, its launchers, its jobs, their status."""
