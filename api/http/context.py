"""The current request's services and caller.

Only `api.app`, `api.errors`, `api.routes` and this package use Flask's context-bound objects; use cases get arguments.
"""

from typing import cast

from flask import current_app, g

from api.services import Caller, Services

EXTENSION = "maskmill"


def services() -> Services:
    return cast(Services, current_app.extensions[EXTENSION])


def caller() -> Caller:
    return Caller(tenant=g.tenant, request_id=g.request_id)
