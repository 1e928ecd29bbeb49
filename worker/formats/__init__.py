"""Output formats, one file each: `render(source)`, a pure function.

Imports no torch, no stores and nothing of the job's pipeline.
"""
