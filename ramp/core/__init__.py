"""Shared basis of all stages: errors, files, command lines, progress, provenance, source closures."""
