"""What gateway, worker and steward must agree on, their version included."""

# Here, and not asked of an installed package: the code runs from a checkout and from images that never install it.
__version__ = "0.1.0"
