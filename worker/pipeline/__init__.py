"""One job, from its message to its result.  No torch; the model is behind the port worker/segmenter.py."""
