# The workflow stands in workflow/Snakefile, where the Snakemake workflow catalogue looks for it.
include: "workflow/Snakefile"
