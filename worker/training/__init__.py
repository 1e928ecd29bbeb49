"""The recipe of the embedded model.  In no image, and imported by nothing else; needs the extra `train`."""
