"""The gateway: HTTP in, jobs out.  Imports nothing of the worker, and no torch, numpy or OpenCV."""
