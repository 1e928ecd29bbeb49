"""Batches for one device: the policy (pure), the scheduler, whose thread owns the device, and a host's way to it.

Imports no torch, no Celery and no job store.
"""
