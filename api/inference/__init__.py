"""The synchronous path: a caller waits for the result of its job.  No Flask."""
