"""The contracts between gateway, worker and steward, and their common version."""

# Not read from package metadata, because the code runs from a checkout and from images that do not install it.
__version__ = "0.1.0"
