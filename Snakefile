# `snakemake` starts here. The workflow itself stands in workflow/Snakefile, where its catalogue looks for it.


include: "workflow/Snakefile"


rule study:
    """What `snakemake` makes where no target is named: everything of the rule `all`."""
    default_target: True
    input:
        rules.all.input,
    localrule: True
