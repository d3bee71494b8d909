# Assets, models, texts and tasks: everything that comes from outside, pinned and checked, or trained here.


rule fetch:
    """One asset of the registry, checked by its sha256."""
    input:
        registry=ancient(REGISTRY),
        own=by(FILES.own_file),
        code=sources("ramp/assets/fetch.py"),
    output:
        record="<results>/assets/{asset}/asset.json",
    log:
        "<logs>/fetch/{asset}.log",
    retries: 2  # goes on where it stopped; without its text or model a study ends before it has begun
    resources:
        **planned_for("fetch"),
        downloads=1,
    params:
        entry=by(VALUES.entry),
        own=by(VALUES.own_entry),
    message:
        "fetching {wildcards.asset}"
    shell:
        "python -m ramp.assets.fetch --asset {wildcards.asset:q} --registry {input.registry:q}"
        " --entry {params.own:q}"
        ' --out "$(dirname {output.record:q})" > {log:q} 2>&1'


rule model:
    """A Hugging Face checkpoint folder of a model that was fetched."""
    input:
        registry=ancient(REGISTRY),
        asset="<results>/assets/{model}/asset.json",
        code=sources("ramp/assets/import_model.py"),
    output:
        record="<results>/models/{model}/asset.json",
        config="<results>/models/{model}/config.json",
    log:
        "<logs>/model/{model}.log",
    wildcard_constraints:
        model=any_of([name for name in PLAN.base_models if name not in PLAN.trained]),
    threads: STUDY.threads
    resources:
        **planned_for("model"),
    params:
        entry=by(VALUES.entry, asset="{model}"),
        own=by(VALUES.own_entry, asset="{model}"),
        assets=folder("assets"),
    message:
        "making a checkpoint of {wildcards.model}"
    shell:
        "python -m ramp.assets.import_model --model {wildcards.model:q} --registry {input.registry:q}"
        " --entry {params.own:q}"
        ' --assets {params.assets:q} --out "$(dirname {output.record:q})" --threads {threads}'
        " > {log:q} 2>&1"


rule train:
    """A tiny model, trained in float32 from a seed."""
    input:
        text="<results>/texts/train.jsonl",
        code=sources("ramp/assets/train_tiny.py"),
    output:
        record="<results>/models/{model}/asset.json",
        config="<results>/models/{model}/config.json",
        weights="<results>/models/{model}/model.safetensors",
        others=expand(
            "<results>/models/{{model}}/{name}.json", name=("generation_config", "tokenizer", "tokenizer_config")
        ),
    log:
        "<logs>/train/{model}.log",
    wildcard_constraints:
        model=any_of(PLAN.trained),
    threads: STUDY.threads
    resources:
        **planned_for("train"),
    params:
        preset=by(VALUES.trained, key="preset"),
        steps=by(VALUES.trained, key="steps"),
        seed=by(VALUES.trained, key="seed"),
        computing=COMPUTING,
    message:
        "training {wildcards.model}: {params.steps} steps"
    shell:
        "python -m ramp.assets.train_tiny --preset {params.preset:q} --text {input.text:q}"
        " --steps {params.steps:q}"
        ' --seed {params.seed:q} --out "$(dirname {output.record:q})" --threads {threads} {params.computing:q}'
        " > {log:q} 2>&1"


rule texts:
    """Documents of every role, and the proof that no role shares one with another."""
    input:
        registry=ancient(REGISTRY),
        assets=expand("<results>/assets/{asset}/asset.json", asset=PLAN.text_assets),
        code=sources("ramp/assets/text_roles.py"),
    output:
        roles=expand("<results>/texts/{role}.jsonl", role=ROLES),
        extra=expand("<results>/texts/{text}.jsonl", text=PLAN.extra_texts),
        guard="<results>/texts/guard.json",
    log:
        "<logs>/texts.log",
    params:
        extra=PLAN.extra_texts,
        assets=folder("assets"),
        entries=[VALUES.entry(name) for name in PLAN.text_assets],
        own=VALUES.own_entries(PLAN.text_assets),
        unread=PLAN.unread_roles,
        named=[f"{role}={name}" for role, name in STUDY.texts.items()],
    message:
        "assigning documents to roles"
    shell:
        "python -m ramp.assets.text_roles --registry {input.registry:q} --assets {params.assets:q}"
        " --extra {params.extra:q}"
        ' --entry {params.own:q} --role {params.named:q} --unread {params.unread:q} --out "$(dirname {output.guard:q})"'
        " > {log:q} 2>&1"


rule token_counts:
    """The tokens of every text by a model's tokenizer, enough for all that the study asks; can it be exported?"""
    input:
        model="<results>/models/{model}/config.json",
        texts=expand("<results>/texts/{text}.jsonl", text=[*ROLES, *PLAN.extra_texts]),
        code=sources("ramp/assets/count_tokens.py"),
    output:
        counts="<results>/texts/counts/{model}.json",
    log:
        "<logs>/token_counts/{model}.log",
    params:
        needs=lambda wildcards: text_needs(PLAN, wildcards.model),
        export=lambda wildcards: ["--export"] if wildcards.model in exported_models(PLAN) else [],
        texts=folder("texts"),
    message:
        "counting tokens for {wildcards.model}"
    shell:
        'python -m ramp.assets.count_tokens --model-dir "$(dirname {input.model:q})" --texts {params.texts:q}'
        " --need {params.needs:q} {params.export:q} --out {output.counts:q} > {log:q} 2>&1"


rule tasks:
    """Rows of the commonsense tasks, as lm-eval reads them."""
    input:
        registry=ancient(REGISTRY),
        assets=expand("<results>/assets/{asset}/asset.json", asset=PLAN.task_assets),
        code=sources("ramp/assets/task_rows.py"),
    output:
        rows=expand("<results>/tasks/{task}.jsonl", task=STUDY.tasks.names),
        sha256=expand("<results>/tasks/{task}.jsonl.sha256", task=STUDY.tasks.names),
    log:
        "<logs>/tasks.log",
    params:
        names=STUDY.tasks.names,
        assets=folder("assets"),
        folder=folder("tasks"),
        entries=[VALUES.entry(name) for name in PLAN.task_assets],
    message:
        "reading the rows of {params.names}"
    shell:
        "python -m ramp.assets.task_rows --registry {input.registry:q} --tasks {params.names:q}"
        " --assets {params.assets:q}"
        " --out {params.folder:q} > {log:q} 2>&1"
