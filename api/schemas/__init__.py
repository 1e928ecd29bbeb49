"""The wire format of the API, one file per resource.  Imports no routes."""
