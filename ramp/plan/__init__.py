"""What a study will cost, before it runs: jobs, hours, memory, disk, downloads; and what the rules ask a scheduler for."""
