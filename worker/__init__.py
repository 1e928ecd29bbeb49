"""The worker: messages in, masks out.  Imports nothing of the gateway and no HTTP framework."""
