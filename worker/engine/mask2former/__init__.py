"""Mask2Former behind the port worker/segmenter.py, in exact and in fast mode."""
