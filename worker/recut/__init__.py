"""Recut: other segments from the logits of a job that has run, without its model.

The engine selects what is kept (worker/engine/postprocessing/selection.py), a host stores it, and the renderer
post-processes it again.  No torch here.
"""
