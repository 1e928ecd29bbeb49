"""A seeded trial of the whole service while its processes are killed, frozen and emptied:  make chaos

Callers submit jobs; a schedule injects faults while their jobs are in flight; a verdict says whether each accepted job
ended once, with the same bytes as in an undisturbed run.  README.md explains how to read the report.
"""
