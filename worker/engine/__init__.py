"""Models: loading, execution plan, forward pass, post-processing.  With worker.training the only place with torch.

Imports no pipeline, no batching and no HTTP: a caller sees the port worker/segmenter.py.
"""
