"""Exchange with other machines: archives with checksums, and merged rows."""
