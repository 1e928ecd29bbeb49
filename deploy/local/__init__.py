"""The one-machine launcher: `python -m deploy.local`.  Starts the parts as processes and imports none of them."""
