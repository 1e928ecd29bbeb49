"""The renderer: a Celery worker on CPUs that makes files of results on demand.  It imports no torch when it starts."""
