"""The reconciler: stalled and orphaned jobs, recovery, retention.  No arrays, no torch, no engine."""
