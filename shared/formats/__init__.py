"""Output formats that gateway and worker agree on.  No arrays, no image libraries."""
