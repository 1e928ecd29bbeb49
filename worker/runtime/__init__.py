"""The worker as processes: hosts, heartbeat, health server, metrics, memory.

Imports no torch, no job store and nothing of the job's pipeline.
"""
