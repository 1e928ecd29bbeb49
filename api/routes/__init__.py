"""HTTP routes, one file per resource.  Nothing but the app imports them."""
