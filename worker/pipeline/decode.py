"""Decoding in this process, without limits of time and memory; the name that the pipeline uses."""

from worker.decoding.pixels import decode

__all__ = ["decode"]
