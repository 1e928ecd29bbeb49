"""From a Mask2Former's logits to one label map, on the device that holds the logits.  Imports no model.

On a CPU the results equal those of transformers' post-processing, bit for bit, with less work: queries that cannot
appear are dropped before any resize, and planes are resized one band of columns at a time, so memory does not grow
with queries times pixels.
"""
