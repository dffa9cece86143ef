"""Prepared data: every image at every resolution, made once."""
