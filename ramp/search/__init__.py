"""The search stage: set-up, run, journal, transfer."""
