"""Named image files as cameras, phones, scanners and programs write them, each with its expected outcome.

One module for each family of formats; `table.py` joins them.  The files are built by encoders that the service does not
use, or byte by byte, and a file that must be segmented has a plain twin: an ordinary PNG of the same content, upright.
"""
