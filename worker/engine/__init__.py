"""Models: loading, execution plan, forward pass, post-processing.  With worker.training the only place with torch."""
