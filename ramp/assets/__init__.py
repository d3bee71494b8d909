"""Models, texts and tasks: fetched, checked, and put into their roles."""
