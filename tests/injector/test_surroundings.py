"""What goes by a number beside a pod that gets the sidecar: named with its line, or changed with it."""

from __future__ import annotations

import pytest
import yaml

from drainproxy.injector.manifest import read
from tests.injector.test_inject import DEPLOYMENT
from tests.injector.ways import HOUSE
from tests.support.command import drainproxy

WEB = DEPLOYMENT.replace("replicas: 3", "replicas: 3\n  selector: {matchLabels: {app: web}}")
ENV = WEB.replace(
    "      labels:\n", "      annotations: {drainproxy.io/app-port-env: PORT}\n      labels:\n", 1
)
HOST = WEB.replace(
    "      labels:\n", "      annotations: {drainproxy.io/app-host-env: HOST}\n      labels:\n", 1
)
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  selector: {app: web}
  ports:
    - name: web
      port: 80
      targetPort: 8080   # the application's
"""
HEADLESS = """\
apiVersion: v1
kind: Service
metadata: {name: peers}
spec:
  clusterIP: None
  selector: {app: web}
  ports:
    - {name: web, port: 8080, targetPort: http}
"""
INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    alb.ingress.kubernetes.io/healthcheck-port: "8080"
spec:
  rules:
    - http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: shop, port: {number: 80}}}
"""
BACKEND_CONFIG = """\
apiVersion: cloud.google.com/v1
kind: BackendConfig
metadata: {name: shop}
spec:
  healthCheck:
    type: HTTP
    port: 8080
"""
BALANCED = SERVICE.replace("8080   # the application's", "http").replace(
    "  name: shop\n",
    '  name: shop\n  annotations:\n    cloud.google.com/backend-config: \'{"default": "shop"}\'\n'
    '    service.beta.kubernetes.io/aws-load-balancer-healthcheck-port: "8080"\n',
)
POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: frontend}}
      ports:
        - protocol: TCP
          port: 8080
"""
EGRESS = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: frontend}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Egress]
  egress:
    - to:
        - podSelector: {matchLabels: {app: web}}
      ports: [{port: 8080}]
    - ports: [{port: 53, protocol: UDP}]
"""
AUTOSCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: 70}
"""
BUDGET = """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  minAvailable: 3
  selector: {matchLabels: {app: web}}
"""


def looked(*documents: str, services: bool = False):
    """Return what is found in files of these documents."""
    files = [(f"{i}.yaml", text) for i, text in enumerate(documents)]
    return read(files, HOUSE, every=False, services=services)


def texts(stream) -> list[str]:
    """Return what becomes of each file."""
    names = dict.fromkeys(each.file for each in stream.documents)
    return ["".join(each.after for each in stream.documents if each.file == name) for name in names]


BYPASSED = {
    "a Service by number": (
        SERVICE,
        "1.yaml, line 10: Service/shop: targetPort 8080 goes around Deployment/web's sidecar: write http",
        '      targetPort: "http"   # the application\'s\n',
    ),
    "a Service without a targetPort": (
        SERVICE.replace("      targetPort: 8080   # the application's\n", "").replace(
            "port: 80", "port: 8080"
        ),
        "1.yaml, line 8: Service/shop: targetPort 8080 goes around Deployment/web's sidecar: write http",
        "      targetPort: http\n",
    ),
    "a headless Service": (
        HEADLESS,
        (
            "1.yaml, line 8: Service/peers: it is headless, and its clients connect to port 8080 of the pods,"
            " around Deployment/web's sidecar: annotate the pods with drainproxy.io/app-port-env or"
            " drainproxy.io/app-host-env, so that the number stays"
        ),
        "",
    ),
    "a health check of ALB": (
        INGRESS + "---\n" + SERVICE.replace("8080   # the application's", "http"),
        (
            "1.yaml, line 6: Ingress/shop: alb.ingress.kubernetes.io/healthcheck-port asks port 8080 around"
            ' Deployment/web\'s sidecar, and hears nothing of a drain: write "28080"'
        ),
        '    alb.ingress.kubernetes.io/healthcheck-port: "28080"\n',
    ),
    "health checks of a Service's balancer": (
        BALANCED,
        (
            "1.yaml, line 7: Service/shop: service.beta.kubernetes.io/aws-load-balancer-healthcheck-port asks"
            ' port 8080 around Deployment/web\'s sidecar, and hears nothing of a drain: write "28080"'
        ),
        'aws-load-balancer-healthcheck-port: "28080"\n',
    ),
    "a health check of GKE": (
        BACKEND_CONFIG
        + "---\n"
        + BALANCED.replace('    service.beta.kubernetes.io/aws-load-balancer-healthcheck-port: "8080"\n', ""),
        (
            "1.yaml, line 7: BackendConfig/shop: its health check asks port 8080 around Deployment/web's"
            " sidecar, and hears nothing of a drain: write 28080"
        ),
        "    port: 28080\n",
    ),
}


@pytest.mark.parametrize(("beside", "said", "becomes"), BYPASSED.values(), ids=BYPASSED.keys())
def test_what_goes_around_is_named_and_can_be_changed(beside, said, becomes):
    """With the line; what cannot be changed without changing its clients is only named."""
    stream = looked(WEB, beside)
    assert list(stream.said()) == [said]
    assert texts(stream)[1] == beside
    stream = looked(WEB, beside, services=True)
    assert list(stream.said()) == ([] if becomes else [said])
    assert becomes in texts(stream)[1]
    assert all(each.injected for each in stream.workloads)


@pytest.mark.parametrize("kept", [ENV, HOST], ids=["env", "address"])
@pytest.mark.parametrize("beside", [SERVICE, HEADLESS, INGRESS + "---\n" + SERVICE, POLICY, EGRESS])
def test_where_the_numbers_stay_nothing_has_to_move(kept, beside):
    """That is what these two doors are for."""
    stream = looked(kept, beside)
    assert list(stream.said()) == []
    assert all(each.injected for each in stream.workloads)


FROM = "    - from:\n        - podSelector: {matchLabels: {app: frontend}}\n      ports"
CUT_OFF = {
    "into the pod": (POLICY, 11, "those whom it lets in"),
    "into the pod, everybody": (POLICY.replace(FROM, "    - ports"), 9, "everybody"),
    "into the pod, in a range": (
        POLICY.replace("port: 8080", "port: 8000\n          endPort: 9000"),
        11,
        "those whom it lets in",
    ),
    "out of its callers": (EGRESS, 10, "those whom it lets out"),
}


@pytest.mark.parametrize(("policy", "line", "who"), CUT_OFF.values(), ids=CUT_OFF.keys())
def test_a_policy_that_admits_the_old_number_only_is_an_error(policy, line, who, tmp_path):
    """The workload stays as it is, since nobody could reach it; with --services both change."""
    (tmp_path / "all.yaml").write_text(f"{WEB}---\n{policy}")
    done = drainproxy("inject", "-f", str(tmp_path / "all.yaml"))
    assert (done.returncode, done.stdout) == (1, (tmp_path / "all.yaml").read_text())
    first = WEB.count("\n") + 1
    assert f"all.yaml, line {first + line}: NetworkPolicy/" in done.stderr
    assert f"it lets {who} reach port 8080 of Deployment/web and not the sidecar's 28080" in done.stderr
    assert "Deployment/web: stays as it is: it would be cut off by" in done.stderr
    assert drainproxy("inject", "--check", "-f", str(tmp_path / "all.yaml")).returncode == 1
    both = drainproxy("inject", "--services", "-f", str(tmp_path / "all.yaml"))
    assert both.returncode == 0
    made = list(yaml.safe_load_all(both.stdout))
    (rule, *_) = made[1]["spec"].get("ingress") or made[1]["spec"]["egress"]
    assert rule["ports"][-1] == {"protocol": "TCP", "port": 28080}
    assert made[0]["spec"]["template"]["spec"]["initContainers"]
    assert list(looked(WEB, yaml.safe_dump(made[1])).said()) == []


ADMITTED = {
    "by name": POLICY.replace("port: 8080", "port: http"),
    "every port": POLICY[: POLICY.index("      ports")],
    "both": POLICY + "        - port: 28080\n",
    "in a range": POLICY.replace("port: 8080", "port: 8000\n          endPort: 30000"),
    "by another rule": POLICY + "    - ports: [{port: 28080}]\n",
    "by another rule, every pod here": POLICY + "    - {from: [{podSelector: {}}], ports: [{port: 28080}]}\n",
    "by another rule, every namespace": POLICY
    + "    - {from: [{namespaceSelector: {}}], ports: [{port: 28080}]}\n",
    "no port of theirs": POLICY.replace("port: 8080", 'port: ""'),
    "an end that is none": POLICY.replace("port: 8080", "port: 8000\n          endPort: many"),
    "of other pods": POLICY.replace("{app: web}}", "{app: other}}"),
    "of another namespace": POLICY.replace("{name: web}", "{name: web, namespace: other}"),
    "another port of theirs": POLICY.replace("8080", "9090"),
    "UDP": POLICY.replace("TCP", "UDP"),
    "out of pods that call others": EGRESS.replace("{app: web}", "{app: db}"),
    "out with every port": EGRESS.replace("      ports: [{port: 8080}]\n", ""),
}


@pytest.mark.parametrize("policy", ADMITTED.values(), ids=ADMITTED.keys())
def test_a_policy_that_lets_them_in_is_no_matter(policy):
    """Or that is about something else."""
    stream = looked(WEB.replace("{name: web}", "{name: web, namespace: shop}"), policy)
    assert list(stream.said()) == []
    assert all(each.injected for each in stream.workloads)


def test_policies_add_up_over_documents():
    """What one of them lacks another may allow; the same peers are meant."""
    more = POLICY.replace("{name: web}", "{name: more}").replace("8080", "28080")
    assert list(looked(WEB, POLICY, more).said()) == []
    others = more.replace("frontend", "prometheus")
    assert len(list(looked(WEB, POLICY, others).said())) == 1


def test_an_autoscaler_counts_the_sidecar_too():
    """That is a remark: nobody is cut off. With --services it counts the application's container alone."""
    stream = looked(WEB, AUTOSCALER)
    (said,) = stream.said()
    assert said.startswith("1.yaml, line 7: HorizontalPodAutoscaler/web: its cpu is that of all containers")
    assert not any(finding.bypasses or finding.cuts_off for _, finding in stream.findings)
    changed = yaml.safe_load(texts(looked(WEB, AUTOSCALER, services=True))[1])
    target = {"type": "Utilization", "averageUtilization": 70}
    assert changed["spec"]["metrics"] == [
        {
            "type": "ContainerResource",
            "containerResource": {"name": "cpu", "target": target, "container": "app"},
        }
    ]
    two = WEB.replace("      # after", "        - {name: more, image: x}\n      # after")
    assert len(list(looked(two, AUTOSCALER, services=True).said())) == 1
    other = AUTOSCALER.replace("kind: Deployment, name: web", "kind: Deployment, name: other")
    assert list(looked(WEB, other).said()) == []


@pytest.mark.parametrize(
    ("budget", "blocks"),
    [
        (BUDGET, True),
        (BUDGET.replace("minAvailable: 3", "maxUnavailable: 0"), True),
        (BUDGET.replace("minAvailable: 3", 'minAvailable: "100%"'), True),
        (BUDGET.replace("minAvailable: 3", "minAvailable: 2"), False),
        (BUDGET.replace("minAvailable: 3", "maxUnavailable: 1"), False),
        (BUDGET.replace("app: web", "app: other"), False),
    ],
)
def test_a_budget_that_lets_nobody_go_is_remarked(budget, blocks):
    """No drain of a node ends, however well the pod's own does."""
    assert any("be evicted" in each for each in looked(WEB, budget).said()) is blocks


def test_a_balancer_that_sends_callers_to_pods_has_a_preset():
    """A remark with the annotation to write; once it is written there is none."""
    alb = INGRESS.replace('healthcheck-port: "8080"', "target-type: ip")
    service = SERVICE.replace("8080   # the application's", "http")
    (said,) = looked(WEB, service, alb).said()
    assert said.startswith("2.yaml, line 6: Ingress/shop: its balancer sends callers to the pods")
    assert said.endswith("drainproxy.io/propagation: alb")
    chosen = "      annotations: {drainproxy.io/propagation: alb}\n      labels:\n"
    assert list(looked(WEB.replace("      labels:\n", chosen, 1), service, alb).said()) == []


def test_check_shows_what_would_change_beside_the_pod(tmp_path):
    """Each file with its difference, and exits 1 only for what is left over."""
    (tmp_path / "web.yaml").write_text(WEB)
    (tmp_path / "service.yaml").write_text(SERVICE)
    files = ["-f", str(tmp_path / "web.yaml"), "-f", str(tmp_path / "service.yaml")]
    assert drainproxy("inject", "--check", *files).returncode == 1
    done = drainproxy("inject", "--check", "--services", *files)
    assert done.returncode == 0
    assert "-      targetPort: 8080   # the application's\n" in done.stdout
    assert f"kubectl apply {' '.join(files)}" in done.stdout
