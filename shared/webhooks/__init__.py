"""Webhooks: endpoints in the bucket, deliveries in Redis, signatures.  No HTTP here, neither server nor client."""
