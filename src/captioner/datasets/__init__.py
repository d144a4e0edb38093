"""Datasets, each in its own module, all in one form: ``dataset.Dataset``."""
