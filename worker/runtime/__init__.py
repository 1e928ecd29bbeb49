"""The worker as a process: heartbeat, health server, metrics.

Imports no torch, no job store and nothing of the job's pipeline.
"""
