"""Mask2Former behind the port worker/segmenter.py, with the exact forward pass or the fast path.

Imports no loader: it is given a loaded network.
"""
