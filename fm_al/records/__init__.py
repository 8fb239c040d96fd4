"""A run's records: how they are written, read and checked."""
