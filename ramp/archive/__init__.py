"""What leaves this machine and what comes from others: archives with checksums, and merged rows."""
