"""Batches for one device: the policy (pure) and the thread that owns the device.  No torch, no Celery."""
