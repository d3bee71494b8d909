"""The results page: one HTML file drawn from the records, which sorts, filters and plots them without a server."""
