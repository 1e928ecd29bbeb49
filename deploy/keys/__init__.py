"""Keys that a deployment makes for itself: passwords, the object store's identity, and its internal certificate.

Used by the launcher, and by the container that runs first in docker-compose.yml.  It imports no part of the service.
"""
