"""A faster forward pass of transformers' Mask2Former, built from the modules and weights of a loaded network.

Everything here depends on how transformers wrote its modules, so optimize.py compares the result with the original.
Imports no post-processing and no loader.
"""
