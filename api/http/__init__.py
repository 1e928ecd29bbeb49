"""HTTP as this service speaks it: tokens, bodies, connections, CORS, OpenAPI fragments.

Knows requests and responses, not jobs: imports neither routes nor use cases.
"""
