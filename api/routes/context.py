"""The gateway, the caller and the tenant's jobs of the current request.  Only the app and the routes import this."""

from typing import cast

from flask import current_app, g

from api.gateway import Gateway
from api.http.authentication import Access
from api.http.tokens import Scope
from api.jobs.admission import Caller
from api.jobs.listing import TenantListing
from api.jobs.queries import TenantJobs

EXTENSION = "maskmill"


def get_gateway() -> Gateway:
    return cast(Gateway, current_app.extensions[EXTENSION])


def get_caller() -> Caller:
    return Caller(g.tenant, g.request_id, max_priority=g.permission.max_priority, models=g.permission.models)


def get_tenant_jobs() -> TenantJobs:
    """Return the jobs of the tenant whose token the request carries."""
    return get_gateway().open_tenant(get_caller().tenant)


def get_tenant_listing() -> TenantListing:
    """Return the list of the tenant whose token the request carries."""
    return get_gateway().open_listing(get_caller().tenant)


def require_scope(scope: Scope) -> None:
    """Check a scope that depends on more than the method of the request.

    Raises:
        MissingScope: the token does not have it.
    """
    Access(g.tenant, g.scopes, g.permission).require(scope)


def is_operator() -> bool:
    """Tell whether the caller may see facts of machines, such as host names."""
    return Scope.ADMIN in g.scopes
