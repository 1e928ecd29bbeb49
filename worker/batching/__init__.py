"""Batches for one device: the policy (pure) and the scheduler, whose thread owns the device.

Imports no torch, no Celery and no job store.
"""
