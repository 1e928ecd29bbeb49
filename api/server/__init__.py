"""The HTTP server of one gateway process: a gunicorn worker whose threads only ever hold complete requests.

One loop reads heads and bodies without blocking and within deadlines, hands each complete request to a thread, and
sends what a client is slow to read.  `loop`, `protocol` and `exchange` use sockets; the rules are in the other modules,
which use none.
"""
