"""Running Maskmill: the one-machine launcher, images, documents.  Imports neither the gateway nor the worker."""
