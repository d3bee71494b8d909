"""The configuration of a study: its types, its checks, its plan."""
