"""Output formats, one file each: pure functions of a segmentation.  No torch, no stores."""
