"""All that Celery and kombu need to be told.  Imports the job's values, not its store."""
