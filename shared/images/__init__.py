"""Image files from untrusted sources: formats, structure, header and orientation.

Gateway and worker both use this package, so that the size in the gateway's response equals the size of the masks, and
what one of them refuses the other refuses too.
"""
