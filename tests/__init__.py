"""Tests, benchmarks and evaluations.  Nothing of the service imports them."""
