"""The synchronous path and the models that it can ask for.  No Flask."""
