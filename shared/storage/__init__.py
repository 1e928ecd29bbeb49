"""The bucket and the keys of its objects.  Of jobs, only their ids are known here."""
