"""Tools of this repository's developers: installation and lock file.  `install` imports only the standard library."""
