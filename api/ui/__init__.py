"""The web pages of the service: their templates, and the files that a browser loads for them.  No Flask here."""
