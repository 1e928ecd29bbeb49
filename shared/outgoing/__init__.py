"""Requests to servers that a client names: which are allowed, and how they are sent.  No Flask, no torch, no stores."""
