"""Measures this project's functions beside the NHS's Python client and curl, on the same servers: `make bench`."""
