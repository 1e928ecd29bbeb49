"""A job: its values, its state in Redis, its result and its events.  No Flask, no arrays, no Celery."""
