"""Batch active learning experiments on image classification."""
