"""The process around the work: lifecycle, heartbeat, health server, metrics.  No torch."""
