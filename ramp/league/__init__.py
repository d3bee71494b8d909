"""The league: searches read at checkpoints and scored on held-out text."""
