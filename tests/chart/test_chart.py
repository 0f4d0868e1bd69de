"""The chart under many sets of values: what comes out is valid, restricted, and says what was asked for."""

from __future__ import annotations

import base64
import json
import re
import ssl
from typing import Any

import pytest
import yaml
from cryptography import x509

from drainproxy import flavour
from drainproxy.injector.annotations import WIRING, words
from drainproxy.settings import table
from tests.chart.rendering import CHART, documents, files, helm, one, pod_specs
from tests.chart.standards import OTHERS, assert_valid, breaches

ON = {"enabled": True}
WEBHOOK = {"injection": {"mode": "webhook"}}
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

SETS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "webhook": WEBHOOK,
    "policy": {"injection": {"mode": "policy", "kubeVersion": "1.36"}},
    "scraped by annotations": {
        "injection": {"mode": "policy", "kubeVersion": "1.36"},
        "sidecar": {"scrapeAnnotations": True},
    },
    "old cluster": {"injection": {"kubeVersion": "1.29"}},
    "new cluster": {"injection": {"kubeVersion": "v1.37.2-eks-1234"}, "webhook": {"enabled": False}},
    "nothing injects": {"injection": {"mode": "none"}},
    "everything watched": {
        **WEBHOOK,
        "monitoring": {
            "labels": {"release": "kube-prometheus-stack"},
            "podMonitor": {**ON, "namespaces": ["shop"]},
            "prometheusRule": {**ON, "disabled": ["DrainproxyBypassed"]},
            "webhook": ON,
            "dashboard": {**ON, "folder": "Ingress", "namespace": "grafana"},
        },
    },
    **{
        f"watched by {kind}": {
            **WEBHOOK,
            "monitoring": {
                "kind": kind,
                "podLabels": ["team"],
                "podMonitor": ON,
                "prometheusRule": {**ON, "classes": {"batch": {"requestsLost": 5}}},
                "webhook": {**ON, "by": "service"},
            },
        }
        for kind in ("prometheus", "victoriametrics", "gmp")
    },
    "cert-manager": {**WEBHOOK, "certificates": {"source": "cert-manager"}},
    "cert-manager with an issuer": {
        **WEBHOOK,
        "certificates": {"source": "cert-manager", "issuerRef": {"kind": "ClusterIssuer", "name": "ca"}},
    },
    "a Secret": {**WEBHOOK, "certificates": {"source": "secret", "secretName": "own-tls", "caBundle": PEM}},
    "roles": {
        "rbac": {"namespaces": [{"name": "shop"}, {"name": "till", "serviceAccounts": ["a", "b"]}]},
        "sidecar": {"rbac": "slices+pod+events"},
    },
    "no roles": {"rbac": {"namespaces": [{"name": "shop"}]}, "sidecar": {"rbac": "none"}},
    "OpenShift": {**WEBHOOK, "sidecar": {"runAsUser": None}, "webhook": {"runAsUser": None}},
    "balancer": {**WEBHOOK, "sidecar": {"propagation": "alb", "mode": "plain"}},
    "revisions": {
        **WEBHOOK,
        "revisions": {"canary": {"tag": "0.2.0"}, "pinned": {"digest": f"sha256:{'a' * 64}"}},
    },
    "placed": {
        **WEBHOOK,
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"repository": "registry.example/drainproxy", "digest": f"sha256:{'b' * 64}"},
        "webhook": {
            "replicas": 3,
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
        },
    },
    "bare": {
        **WEBHOOK,
        "webhook": {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}},
    },
}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_every_document_is_one_that_kubernetes_takes(values):
    """Documents pass the schemas of three Kubernetes versions, and pods the restricted standard."""
    found = documents(values)
    assert_valid(found)
    for name, spec in pod_specs(found):
        assert breaches(spec) == [], name
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
    for each in found:
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "drainproxy"
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "drainproxy"
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names)), "two documents of one name"


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_finds_nothing_to_complain_of(values):
    """`helm lint --strict` is silent but for the icon that we do not have."""
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


def test_a_policy_leads_no_packets():
    """Where redirect is allowed the webhook is chosen, with an image for it; a digest names another."""
    values = {"injection": {"kubeVersion": "1.36"}, "capture": {"redirect": "allowed"}}
    webhook = one(documents(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert "--redirect-image=drainproxy:0.1.0-redirect" in webhook["args"]
    values["image"] = {"digest": "sha256:" + "0" * 64}
    with pytest.raises(helm.HelmRenderError, match="set capture.image"):
        documents(values)
    values["capture"]["image"] = "registry.example/led:1"
    webhook = one(documents(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert "--redirect-image=registry.example/led:1" in webhook["args"]


@pytest.mark.parametrize(
    ("values", "enabled", "kind"),
    [
        ({"kubeVersion": "1.29"}, True, "webhook"),
        ({"kubeVersion": "1.36"}, True, "webhook"),
        ({"kubeVersion": "1.36"}, False, "policy"),
        ({"mode": "policy", "kubeVersion": "v1.36.0-gke.1"}, True, "policy"),
        ({"mode": "webhook", "kubeVersion": "1.36"}, True, "webhook"),
        ({"mode": "none", "kubeVersion": "1.36"}, True, "none"),
    ],
)
def test_who_injects(values, enabled, kind):
    """Auto runs the webhook where it is enabled, whatever the cluster: its upgrade changes no pod."""
    found = documents({"injection": values, "webhook": {"enabled": enabled}})
    kinds = {each["kind"] for each in found}
    assert ("MutatingWebhookConfiguration" in kinds) == (kind == "webhook")
    assert ("Deployment" in kinds) == (kind == "webhook")
    assert ("MutatingAdmissionPolicy" in kinds) == (kind == "policy")


def test_the_chart_asks_the_cluster_it_is_rendered_for():
    """Without a version in the values, .Capabilities decide: Helm's own here, which has the policies."""
    kinds = {each["kind"] for each in documents({"injection": {"mode": "policy"}})}
    assert "MutatingAdmissionPolicy" in kinds


def test_a_pod_goes_through_one_door_of_the_webhook():
    """By its own label or by its namespace's; its own `false` wins, and system namespaces are never asked."""
    configuration = one(documents(WEBHOOK), "MutatingWebhookConfiguration")
    by_name = {each["name"]: each for each in configuration["webhooks"]}
    assert by_name["pods.drainproxy.io"]["objectSelector"] == {
        "matchLabels": {"drainproxy.io/inject": "true"}
    }
    namespaces = by_name["namespaces.drainproxy.io"]
    assert namespaces["namespaceSelector"]["matchLabels"] == {"drainproxy.io/inject": "true"}
    (unsaid,) = namespaces["objectSelector"]["matchExpressions"]
    assert unsaid == {"key": "drainproxy.io/inject", "operator": "DoesNotExist"}
    for each in by_name.values():
        (excluded,) = each["namespaceSelector"]["matchExpressions"]
        assert {"kube-system", "drainproxy-system"} <= set(excluded["values"])
        assert each["failurePolicy"] == "Ignore"
        assert each["timeoutSeconds"] == 2


def test_whoever_applies_a_workload_is_warned_through_one_door():
    """By its pods' label or by its namespace's, never refused, and only where pods ask for the sidecar."""
    configuration = one(documents(WEBHOOK), "ValidatingWebhookConfiguration")
    by_name = {each["name"]: each for each in configuration["webhooks"]}
    asks = by_name["workloads.check.drainproxy.io"]["matchConditions"][0]["expression"]
    assert asks.endswith("object.spec.template.metadata.labels['drainproxy.io/inject'] == 'true'")
    namespaces = by_name["namespaces.check.drainproxy.io"]
    assert namespaces["namespaceSelector"]["matchLabels"] == {"drainproxy.io/inject": "true"}
    assert namespaces["matchConditions"][0]["expression"].startswith("!(")
    for each in by_name.values():
        assert (each["failurePolicy"], each["sideEffects"]) == ("Ignore", "None")
        assert each["clientConfig"]["service"]["path"] == "/check"
        (excluded,) = each["namespaceSelector"]["matchExpressions"]
        assert {"kube-system", "drainproxy-system"} <= set(excluded["values"])


def test_events_take_a_service_account_and_can_be_left_out():
    """With no more than what is written and counted; without them the webhook has no token."""
    found = documents(WEBHOOK)
    (role,) = (each for each in found if each["kind"] == "ClusterRole")
    granted = {(name, verb) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]}
    kept = {("namespaces", "list"), ("namespaces", "watch")}
    assert granted == {("events", "create"), ("replicasets", "get"), ("pods", "list"), *kept}
    spec = one(found, "Deployment")["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == one(found, "ServiceAccount")["metadata"]["name"]
    assert "--credentials=/var/run/secrets/kubernetes.io/serviceaccount" in spec["containers"][0]["args"]
    without = documents({**WEBHOOK, "webhook": {"events": False}})
    assert {"ClusterRole", "ClusterRoleBinding", "ServiceAccount"}.isdisjoint(
        each["kind"] for each in without
    )
    spec = one(without, "Deployment")["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["volumes"]] == ["certificate"]
    assert "credentials" not in str(spec["containers"][0]["args"])


def test_a_made_certificate_fits_its_secret_and_its_webhook(tmp_path):
    """The CA in the configuration vouches for the certificate in the Secret, whose key is its own."""
    found = documents(WEBHOOK)
    secret = {name: base64.b64decode(data) for name, data in one(found, "Secret")["data"].items()}
    for name, data in secret.items():
        (tmp_path / name).write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    for each in one(found, "MutatingWebhookConfiguration")["webhooks"]:
        assert base64.b64decode(each["clientConfig"]["caBundle"]) == secret["ca.crt"]
        service = each["clientConfig"]["service"]
        assert service["name"] == one(found, "Service")["metadata"]["name"]
    for each in one(found, "ValidatingWebhookConfiguration")["webhooks"]:
        assert base64.b64decode(each["clientConfig"]["caBundle"]) == secret["ca.crt"]
    volumes = one(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (volume,) = (each for each in volumes if "secret" in each)
    assert volume["secret"]["secretName"] == one(found, "Secret")["metadata"]["name"]


def test_a_certificate_has_the_name_of_the_address():
    """The API server asks for the name in the address, whoever made the certificate."""
    url = {"webhook": {"url": "https://hooks.example.com:8443/x"}}
    names = ["drainproxy-webhook.drainproxy-system.svc", "hooks.example.com"]
    made = base64.b64decode(one(documents({**WEBHOOK, **url}), "Secret")["data"]["tls.crt"])
    certificate = x509.load_pem_x509_certificate(made)
    said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert said.get_values_for_type(x509.DNSName) == names
    assert one(documents({**SETS["cert-manager"], **url}), "Certificate")["spec"]["dnsNames"] == names


def test_cert_manager_hands_its_own_ca_to_the_webhook():
    """No certificate is made here, and the injector is told where the CA is."""
    found = documents(SETS["cert-manager"])
    assert "Secret" not in {each["kind"] for each in found}
    certificate = one(found, "Certificate")
    configuration = one(found, "MutatingWebhookConfiguration")
    named = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert named == f"drainproxy-system/{certificate['metadata']['name']}"
    assert certificate["spec"]["issuerRef"]["name"] == one(found, "Issuer")["metadata"]["name"]
    issued = documents(SETS["cert-manager with an issuer"])
    assert "Issuer" not in {each["kind"] for each in issued}
    assert one(issued, "Certificate")["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": "ca"}


def test_roles_are_bound_where_they_are_asked_for():
    """For all of a namespace, or for the ServiceAccounts named; tier none makes none."""
    found = documents(SETS["roles"])
    bindings = {each["metadata"]["namespace"]: each for each in found if each["kind"] == "RoleBinding"}
    assert [each["name"] for each in bindings["shop"]["subjects"]] == ["system:serviceaccounts:shop"]
    assert [each["name"] for each in bindings["till"]["subjects"]] == ["a", "b"]
    assert {each["kind"] for each in documents(SETS["no roles"])}.isdisjoint({"Role", "RoleBinding"})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"sidecar": {"gracePeriod": 20}},
            "gracePeriod 20 s is too short: propagation max 15 s (preset cluster)",
        ),
        (
            {"sidecar": {"gracePeriod": 60, "propagation": "alb", "propagationMax": 50}},
            "propagationMax to at most 45",
        ),
        (
            {"sidecar": {"gracePeriod": 20}},
            "= 30 s; set gracePeriod to at least 30, or propagationMax to at most 5",
        ),
        (
            {"sidecar": {"env": {"DRAINPROXY_DRAIN_TIMEOUT": "1m0.5s"}}},
            "DRAIN_TIMEOUT 1m0.5s is beyond the 22 s that gracePeriod 30 s leaves for requests",
        ),
        (
            {"sidecar": {"env": {"DRAINPROXY_DRAIN_TIMEOUT": "1m0.5s"}}},
            "set gracePeriod to at least 69, or DRAINPROXY_DRAIN_TIMEOUT to at most 22s",
        ),
        ({"sidecar": {"propagation": "elb"}}, "at '/sidecar/propagation': value must be one of"),
        ({"sidecar": {"port": 80}}, "at '/sidecar/port': minimum: got 80, want 1,024"),
        ({"injection": {"mode": "magic"}}, "at '/injection/mode': value must be one of"),
        ({"sidecar": {"env": {"MALLOC_ARENA_MAX": "1"}}}, "invalid propertyName 'MALLOC_ARENA_MAX'"),
        ({"sidecar": {"env": {"DRAINPROXY_HEAD_TIMEOT": "3s"}}}, "propertyName 'DRAINPROXY_HEAD_TIMEOT'"),
        ({"sidecar": {"env": {"DRAINPROXY_APP_STOP": "9s"}}}, "propertyName 'DRAINPROXY_APP_STOP'"),
        ({"sidecar": {"resources": {"limits": {"cpu": "49m"}}}}, "'49m' does not match pattern"),
        ({"sidecar": {"resources": {"limits": {"cpu": "0.049"}}}}, "'0.049' does not match pattern"),
        ({"sidecar": {"resources": {"limits": {"memory": None}}}}, "missing property 'memory'"),
        ({"sidecar": {"resources": {"requests": {"cpu": "lots"}}}}, "'lots' does not match pattern"),
        ({"sidecar": {"port": 29900}}, "port and adminPort are both 29900"),
        ({**WEBHOOK, "webhook": {"port": 29900}}, "webhook.port and sidecar.adminPort are both 29900"),
        ({"injection": {"mode": "policy", "kubeVersion": "1.33"}}, "needs Kubernetes 1.36"),
        ({"injection": {"kubeVersion": "1.33"}, "webhook": {"enabled": False}}, "needs Kubernetes 1.36"),
        ({**WEBHOOK, "webhook": {"enabled": False}}, "contradict one another"),
        ({"webhook": {"replica": 1}}, "additional properties 'replica' not allowed"),
        ({"revisions": {"canary": {}}}, "revisions.canary needs a tag or a digest"),
        ({**WEBHOOK, "certificates": {"source": "secret"}}, "needs certificates.secretName"),
        (
            {**WEBHOOK, "certificates": {"source": "secret", "secretName": "own"}},
            "needs certificates.caBundle",
        ),
        ({"monitoring": {"podMonitor": {"intervalSeconds": 61}}}, "maximum: got 61, want 60"),
        ({"monitoring": {"podMonitor": {"intervalSeconds": 0}}}, "minimum: got 0, want 1"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_a_sentence(values, sentence):
    """Before anything is installed, and with the number to change."""
    with pytest.raises((helm.HelmRenderError, helm.HelmValuesError), match=re.escape(sentence)):
        files(values)


def test_the_schema_knows_every_value_and_no_other():
    """A value without a schema would be a typing error that nobody hears of."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def unknown(value: Any, part: dict[str, Any], path: str) -> list[str]:
        known = part.get("properties")
        if not isinstance(value, dict) or known is None:
            return []
        spare = {"global", "drainproxy-library"} if not path else set()
        odd = [
            f"{path}/{each}"
            for each in set(value) ^ (set(known) - spare)
            if known.get(each) != {"type": "string"}
        ]
        return odd + [
            each
            for name, inner in value.items()
            if name in known
            for each in unknown(inner, known[name], f"{path}/{name}")
        ]

    schema["properties"]["certificates"]["properties"]["issuerRef"].pop("properties")
    assert unknown(values, schema, "") == []


def test_the_schema_lists_the_settings_that_a_pods_environment_may_add():
    """A misspelt one would keep the webhook from starting; one with its own value would spoil the sum."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    listed = schema["properties"]["sidecar"]["properties"]["env"]["propertyNames"]["enum"]
    own = {"rbac", "propagation", "propagation_max", "leave_spread", "app_stop", "reserve"}
    assert listed == [setting.env for setting in table() if setting.name not in WIRING | own] + [flavour.PURE]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("sidecar/mode", "mode"),
        ("sidecar/propagation", "propagation"),
        ("sidecar/rbac", "rbac"),
        ("image/pullPolicy", "image-pull-policy"),
    ],
)
def test_the_schema_has_the_words_that_a_setting_takes(value, annotation):
    """As its type says them: one more there is one more here."""
    part = json.loads((CHART / "values.schema.json").read_text())
    for name in value.split("/"):
        part = part["properties"][name]
    takes = dict(words())[annotation].kind
    assert sorted(part["enum"]) == sorted(takes.metavar.split("|"))


@pytest.mark.parametrize(
    ("value", "text"), [(16777216, "16777216"), (0.25, "0.25"), (True, "true"), ("3s", "3s")]
)
def test_a_number_is_written_as_a_setting_takes_it(value, text):
    """Helm holds whole numbers as floats, and prints large ones with an exponent."""
    env = {"sidecar": {"env": {"DRAINPROXY_MAX_BODY_BYTES": value}}}
    (webhook,) = (each for each in documents({**WEBHOOK, **env}) if each["kind"] == "Deployment")
    arguments = webhook["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--set=max-body-bytes={text}" in arguments


def test_notes_say_what_to_do_next():
    """One command that protects a Deployment, the grace in numbers, and what is missing."""
    notes = files(WEBHOOK)["drainproxy/templates/NOTES.txt"]
    assert '"drainproxy.io/inject":"true"' in notes
    assert "30 s of grace with preset cluster" in notes
    assert "rbac.namespaces is empty" in notes
    notes = files({"injection": {"mode": "none"}, "sidecar": {"propagation": "alb"}})
    assert "Nothing injects sidecars" in notes["drainproxy/templates/NOTES.txt"]
    assert "105 s of grace" in notes["drainproxy/templates/NOTES.txt"]


def test_custom_resources_are_the_only_ones_not_validated():
    """The list of what the validator cannot know is no longer than it has to be."""
    found = {
        (each["apiVersion"], each["kind"])
        for name, values in SETS.items()
        if "watched" in name or name == "cert-manager"
        for each in documents(values)
    }
    assert found >= OTHERS


def test_the_webhooks_policy_keeps_pods_out_where_their_networks_are_named():
    """Only the API server asks it, from the nodes' network; anybody else could only try to wear it down."""
    values = {**WEBHOOK, "webhook": {"networkPolicy": {"podNetworks": ["10.244.0.0/16", "fd00:10::/56"]}}}
    policy = one(documents(values), "NetworkPolicy")
    assert_valid([policy])
    own, metrics = policy["spec"]["ingress"]
    assert own["from"] == [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fd00:10::/56"]}},
    ]
    assert "from" not in metrics
    assert "from" not in one(documents(WEBHOOK), "NetworkPolicy")["spec"]["ingress"][0]


@pytest.mark.parametrize(
    ("version", "chosen", "mode"),
    [
        ("1.29", "native", "plain"),
        ("v1.32.9-gke.1", "native", "plain"),
        ("1.33", "native", "native"),
        ("v1.35.1+k3s1", "native", "native"),
        ("1.35", "plain", "plain"),
    ],
)
def test_a_port_keeps_its_name_for_services_of_every_version(version, chosen, mode):
    """Before 1.33 none finds it in a native sidecar: pods get a plain one, and the webhook knows why."""
    values = {"injection": {"mode": "webhook", "kubeVersion": version}, "sidecar": {"mode": chosen}}
    (webhook,) = (each for each in documents(values) if each["kind"] == "Deployment")
    args = webhook["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--set=mode={mode}" in args
    assert f"--kubernetes={'.'.join(version.removeprefix('v').split('.')[:2])}" in args


def test_values_of_a_cluster_with_rules():
    """Labels, selectors, another network, address, account and more objects come where they belong."""
    found = documents(
        {
            **WEBHOOK,
            "commonLabels": {"team": "edge"},
            "extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
            ],
            "injection": {
                "mode": "webhook",
                "namespaceSelector": {"matchLabels": {"stage": "live"}},
                "objectSelector": {"matchExpressions": [{"key": "job-name", "operator": "DoesNotExist"}]},
            },
            "webhook": {
                "hostNetwork": True,
                "url": "https://hooks.example.com/",
                "strategy": {"type": "Recreate"},
                "topologySpreadConstraints": [
                    {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
                ],
                "serviceAccount": {"name": "hooks"},
                "serviceAnnotations": {"note": "internal"},
            },
        }
    )
    assert_valid(found)
    one(found, "ConfigMap", "drainproxy-more")
    assert all(each["metadata"]["labels"]["team"] == "edge" for each in found if each["kind"] != "ConfigMap")
    for kind, path in (
        ("MutatingWebhookConfiguration", "mutate"),
        ("ValidatingWebhookConfiguration", "check"),
    ):
        for hook in one(found, kind)["webhooks"]:
            assert hook["clientConfig"]["url"] == f"https://hooks.example.com/{path}"
            assert "service" not in hook["clientConfig"]
            assert hook["namespaceSelector"]["matchLabels"]["stage"] == "live"
    selectors = [each["objectSelector"] for each in one(found, "MutatingWebhookConfiguration")["webhooks"]]
    assert all(
        {"key": "job-name", "operator": "DoesNotExist"} in each["matchExpressions"] for each in selectors
    )
    deployment = one(found, "Deployment")["spec"]
    spec = deployment["template"]["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    assert (spec["hostNetwork"], spec["serviceAccountName"]) == (True, "hooks")
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert not [each for each in found if each["kind"] == "ServiceAccount"]
    assert one(found, "ClusterRoleBinding")["subjects"][0]["name"] == "hooks"
    assert one(found, "Service")["metadata"]["annotations"] == {"note": "internal"}


@pytest.mark.parametrize(("events", "types"), [(True, ["Ingress"]), (False, ["Ingress", "Egress"])])
def test_who_writes_events_may_call_the_api_server(events, types):
    """The webhook's NetworkPolicy keeps it from calling anybody only where it has nobody to call."""
    found = documents({**WEBHOOK, "webhook": {"events": events}})
    policy = one(found, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == types
    assert ("egress" in policy) == ("Egress" in types)


def test_slices_may_be_read_in_every_namespace():
    """rbac.clusterWide is one role for every pod, instead of one for each namespace."""
    found = documents({**WEBHOOK, "webhook": {"events": False}, "rbac": {"clusterWide": True}})
    role, binding = one(found, "ClusterRole"), one(found, "ClusterRoleBinding")
    assert role["rules"] == [
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    assert binding["subjects"] == [
        {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts"}
    ]


@pytest.mark.parametrize("mesh", ["auto", "istio", "linkerd", "none"])
def test_a_mesh_that_is_chosen_for_all(mesh):
    """The webhook is told; the policy, which leaves pods beside one alone, refuses what it cannot follow."""
    webhook = one(documents({**WEBHOOK, "sidecar": {"mesh": mesh}}), "Deployment")
    told = f"--set=mesh={mesh}" in webhook["spec"]["template"]["spec"]["containers"][0]["args"]
    assert told == (mesh != "auto")
    policy = {"injection": {"mode": "policy", "kubeVersion": "1.36"}, "sidecar": {"mesh": mesh}}
    if mesh in ("istio", "linkerd"):
        with pytest.raises(helm.HelmRenderError, match=f"sidecar.mesh {mesh} needs the webhook"):
            documents(policy)
        return
    found = [each for each in documents(policy) if each["kind"] == "MutatingAdmissionPolicy"]
    for each in found:
        asked = {condition["name"] for condition in each["spec"]["matchConditions"]}
        assert ("no-mesh-of-the-namespace" in asked) == (mesh == "auto")


@pytest.mark.parametrize("limit", ["50m", "100m", "0.05", "0.5", "1", "1500m", None])
def test_a_cpu_limit_for_every_pod(limit):
    """The webhook is told, and the policy's own sidecar has it; there is none unless it is asked for."""
    chosen = {"sidecar": {"resources": {"limits": {"cpu": limit}}}}
    webhook = one(documents({**WEBHOOK, **chosen}), "Deployment")["spec"]["template"]["spec"]
    told = [each for each in webhook["containers"][0]["args"] if each.startswith("--set=cpu-limit")]
    assert told == ([] if limit is None else [f"--set=cpu-limit={limit}"])
    policy = str(documents({**chosen, "injection": {"mode": "policy", "kubeVersion": "1.36"}}))
    assert (f'"cpu":"{limit}"' in re.sub(r"\s", "", policy)) == (limit is not None)
