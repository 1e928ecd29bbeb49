"""Which faster ways give the same results: measured on bundled photos when a model is loaded, and remembered.

Knows segmenters only through the port worker/segmenter.py; imports no model family and no loader.
"""
