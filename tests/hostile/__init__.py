"""Named hostile inputs over all entry points of the gateway, each with the status that it must be answered with.

One file for each kind of entry point; `table.py` joins them.  `runner.py` is a function of a base URL, so the table is
also run against a service that runs elsewhere, such as the compose stack:

    python -m tests.hostile --url http://127.0.0.1:8000 --token SECRET
"""
