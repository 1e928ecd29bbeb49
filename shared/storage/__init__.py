"""The bucket and the keys of its objects.  Knows nothing of jobs but their ids."""
