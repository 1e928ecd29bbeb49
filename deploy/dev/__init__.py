"""Tools for developing this repository: installation and lock file.

`install` runs before anything is installed, so it must import only the standard library.
"""
