"""Decoding of untrusted images in child processes, within limits of memory and CPU time.

No Celery, no stores, no torch here; what runs in the children imports only Pillow, numpy and shared.images.
"""
