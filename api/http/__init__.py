"""The HTTP edge: tokens, bodies, connections, compression, CORS, OpenAPI fragments, the gunicorn worker.

Must not import routes or use cases: it knows requests and responses, not jobs.
"""
