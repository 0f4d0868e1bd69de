"""The fields that Argo Rollouts' and Flagger's definitions have, as far as this project writes them.

Read off their CustomResourceDefinitions (argoproj/argo-rollouts manifests/crds, fluxcd/flagger
artifacts/flagger/crd.yaml) and written down anew; a field that is not here is refused.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FIGURE: Schema = {"type": "number"}
INT_OR_STRING: Schema = {"anyOf": [NUMBER, TEXT]}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$|^\{\{args\.[a-z-]+\}\}$"}
ANY: Schema = {"type": "object"}


def fields(*required: str, **properties: Schema) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def several(item: Schema) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": item, "minItems": 1}


def resource(spec: Schema) -> Schema:
    """A whole object."""
    metadata = fields("name", name=TEXT, namespace=TEXT, labels=ANY, annotations=ANY)
    return fields(
        "apiVersion", "kind", "metadata", "spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec
    )


PROMETHEUS = fields("query", address=TEXT, query=TEXT, timeout=NUMBER, insecure={"type": "boolean"})
METRIC = fields(
    "name",
    "provider",
    name=TEXT,
    interval=DURATION,
    initialDelay=DURATION,
    count=INT_OR_STRING,
    successCondition=TEXT,
    failureCondition=TEXT,
    failureLimit=INT_OR_STRING,
    inconclusiveLimit=INT_OR_STRING,
    consecutiveErrorLimit=INT_OR_STRING,
    consecutiveSuccessLimit=INT_OR_STRING,
    provider=fields("prometheus", prometheus=PROMETHEUS),
)
FIELD = fields("fieldPath", fieldPath=TEXT)
ANALYSIS = resource(
    fields(
        "metrics",
        args=several(fields("name", name=TEXT, value=TEXT, valueFrom=fields(fieldRef=FIELD))),
        metrics=several(METRIC),
    )
)
HASH = {"type": "string", "enum": ["Stable", "Latest"]}
STEP_ANALYSIS = fields(
    "templates",
    templates=several(fields("templateName", templateName=TEXT, clusterScope={"type": "boolean"})),
    args=several(
        fields("name", name=TEXT, value=TEXT, valueFrom=fields(fieldRef=FIELD, podTemplateHashValue=HASH))
    ),
)
STEP = {
    "oneOf": [
        fields("setWeight", setWeight={"type": "integer", "minimum": 0, "maximum": 100}),
        fields("pause", pause=fields(duration={"anyOf": [NUMBER, DURATION]})),
        fields("analysis", analysis=STEP_ANALYSIS),
    ]
}
ROLLOUT = resource(
    fields(
        "strategy",
        replicas=NUMBER,
        revisionHistoryLimit=NUMBER,
        selector=fields("matchLabels", matchLabels=ANY),
        template=fields("metadata", "spec", metadata=fields(labels=ANY, annotations=ANY), spec=ANY),
        strategy=fields(
            "canary",
            canary=fields("steps", maxSurge=INT_OR_STRING, maxUnavailable=INT_OR_STRING, steps=several(STEP)),
        ),
    )
)

PROVIDERS = {"prometheus", "influxdb", "datadog", "externalmetrics", "stackdriver", "cloudwatch", "newrelic"}
PROVIDERS |= {"graphite", "dynatrace", "keptn", "splunk"}
METRIC_TEMPLATE = resource(
    fields(
        "provider",
        "query",
        provider=fields(
            "type",
            type={"type": "string", "enum": sorted(PROVIDERS)},
            address=TEXT,
            secretRef=fields("name", name=TEXT),
            insecureSkipVerify={"type": "boolean"},
        ),
        query=TEXT,
    )
)
CHECK = fields(
    "name",
    name=TEXT,
    interval=DURATION,
    templateRef=fields("name", name=TEXT, namespace=TEXT),
    thresholdRange=fields(min=FIGURE, max=FIGURE),
)
FLAGGER_ANALYSIS = fields(
    "interval",
    "threshold",
    interval=DURATION,
    threshold=FIGURE,
    maxWeight=FIGURE,
    stepWeight=FIGURE,
    iterations=FIGURE,
    metrics=several(CHECK),
)
CANARY = resource(
    fields(
        "targetRef",
        "service",
        "analysis",
        targetRef=fields("kind", "name", apiVersion=TEXT, kind=TEXT, name=TEXT),
        progressDeadlineSeconds=FIGURE,
        service=fields("port", port=FIGURE, targetPort=INT_OR_STRING, portName=TEXT),
        analysis=FLAGGER_ANALYSIS,
    )
)

SCHEMAS = {
    ("argoproj.io/v1alpha1", "AnalysisTemplate"): ANALYSIS,
    ("argoproj.io/v1alpha1", "ClusterAnalysisTemplate"): ANALYSIS,
    ("argoproj.io/v1alpha1", "Rollout"): ROLLOUT,
    ("flagger.app/v1beta1", "MetricTemplate"): METRIC_TEMPLATE,
    ("flagger.app/v1beta1", "Canary"): CANARY,
}
