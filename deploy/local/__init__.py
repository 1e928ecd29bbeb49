"""The one-machine launcher: `python -m deploy.local`.

Starts gateway, worker and steward as processes and must import none of their packages (`api`, `worker`).
"""
