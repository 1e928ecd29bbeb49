"""The use cases of jobs: admission, submission, queries, cancellation, compensation.  No Flask."""
