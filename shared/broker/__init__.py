"""The configuration of Celery and kombu, and their messages.  Imports the job's values, not its store."""
