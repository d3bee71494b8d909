# Additive sensitivities of the linears of a bank: Fisher's, and the other kinds where a planned method names them.


rule sensitivity:
    """Additive Fisher proxy of every linear at every width."""
    input:
        model=by(FILES.checkpoint),
        weights=below("bank/{calibrated}/{fold}-{quantizer}/bank.safetensors", calibrated=FILES.calibrated),
        index=below("bank/{calibrated}/{fold}-{quantizer}/bank.json", calibrated=FILES.calibrated),
        fold=below("folds/{calibrated}/{fold}.safetensors", calibrated=FILES.calibrated),
        text=by(FILES.proxy_text),
        code=by(FILES.proxy_stage),
    output:
        proxy="<results>/sensitivity/{model}/{fold}-{quantizer}.json",
    log:
        "<logs>/sensitivity/{model}/{fold}-{quantizer}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("sensitivity"),
    params:
        kind=lambda wildcards: wildcards.get("proxy", PROXIES[0]),
        windows=by(VALUES.of_model, source=STUDY.sensitivity.windows, target=STUDY.sensitivity.target_windows),
        length=STUDY.sensitivity.length,
        draw=by(VALUES.draw),
        computing=COMPUTING,
    message:
        "Fisher sensitivities of {wildcards.model}"
    shell:
        'gpu_lease python -m ramp.sensitivity --kind {params.kind:q} --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.weights:q})" --fold {input.fold:q} --text {input.text:q}'
        " --windows {params.windows:q}"
        " --length {params.length:q} {params.draw:q} --out {output.proxy:q} --threads {threads} {params.computing:q}"
        " > {log:q} 2>&1"


# Additive sensitivities of another kind (ramp/sensitivity/kinds.py), on calibration text.
use rule sensitivity as proxy with:
    output:
        proxy="<results>/sensitivity/{model}/{fold}-{quantizer}-{proxy}.json",
    log:
        "<logs>/sensitivity/{model}/{fold}-{quantizer}-{proxy}.log",
    wildcard_constraints:
        proxy=any_of(PROXIES[1:]),
    resources:
        **planned_for("proxy"),
    message:
        "sensitivities of {wildcards.model}: {wildcards.proxy}"
