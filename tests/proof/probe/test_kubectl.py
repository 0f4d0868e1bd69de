"""Which kubectl commands are understood, and what they are about; the manual's are among them."""

import re
from pathlib import Path

import pytest

from drainproxy.proof.probe.kubectl import Order, led, understood

DOCS = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("command", "verb", "cluster", "objects"),
    [
        ("kubectl rollout restart deployment/web", "restart", "", "deployment/web"),
        ("kubectl rollout restart deploy web -n shop", "restart", "-n shop", "deploy web"),
        ("kubectl -nshop --context=prod rollout undo sts/db", "undo", "-n shop --context prod", "sts/db"),
        ("/usr/bin/kubectl scale --replicas 3 deployment/web", "scale", "", "deployment/web"),
        ("kubectl scale -l app=web deployment --replicas=0", "scale", "", "deployment -l app=web"),
        ("kubectl delete pod web-1 web-2 --wait=false", "delete", "", "pod web-1 web-2"),
        ("kubectl drain node-1 --ignore-daemonsets --timeout 60s", "drain", "", "node-1"),
        ("kubectl apply -f a.yaml -R --server-side", "apply", "", "-f a.yaml -R"),
        ("kubectl apply -k overlays/prod --kubeconfig k", "apply", "--kubeconfig k", "-k overlays/prod"),
        ("kubectl patch deployment web -p {} --type merge", "patch", "", "deployment web"),
        ("kubectl set image deployment/web app=web:2", "set", "", "deployment/web"),
        ("kubectl --insecure-skip-tls-verify delete pod x", "delete", "--insecure-skip-tls-verify", "pod x"),
        ("oc rollout restart deployment/web", "restart", "", "deployment/web"),
    ],
)
def test_a_command_says_what_it_is_about(command, verb, cluster, objects):
    """Flags may stand anywhere, with their value behind them, behind = or at once."""
    words = tuple(command.split())
    assert understood(words) == Order(words[0], verb, tuple(cluster.split()), tuple(objects.split()))


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sh -c true",
        "helm upgrade web ./chart",
        "kubectl get pods",
        "kubectl rollout status deployment/web",
        "kubectl rollout",
        "kubectl rollout restart",
        "kubectl apply",
        "kubectl apply -f -",
        "kubectl delete pod web-1 --dry-run=client",
        "kubectl scale --replicas",
        "kubectl",
    ],
)
def test_what_is_not_known_is_not_guessed(command):
    """Nor what changes nothing, nor what would be read from a standard input that nobody has."""
    assert understood(tuple(command.split())) is None


def test_another_question_goes_to_the_same_cluster():
    """With the same program."""
    order = understood(("kubectl", "-n", "shop", "delete", "pod", "x"))
    assert order is not None
    assert order.ask("get", "pods") == ("kubectl", "get", "pods", "-n", "shop")


def test_every_command_of_the_manual_is_understood():
    """Whoever copies one gets the whole rollout measured."""
    pages = [*DOCS.glob("*.md"), *DOCS.glob("docs/*.md")]
    found = [
        words
        for page in pages
        for words in re.findall(r"drainproxy probe \S+ -- ([^`\n]+)", page.read_text())
        if not words.startswith("COMMAND")
    ]
    assert len(found) >= 2
    for words in found:
        assert understood(tuple(words.split())) is not None, words


FLAGS = ("--namespace=shop", "--context=prod")


def test_a_kubectl_command_is_told_which_cluster_is_meant():
    """And so is whatever is asked for it; its own words come later, and count."""
    command = led(("/usr/bin/kubectl", "rollout", "restart", "deploy/web", "-n", "till"), FLAGS)
    assert command == ("/usr/bin/kubectl", *FLAGS, "rollout", "restart", "deploy/web", "-n", "till")
    order = understood(command)
    assert order is not None
    assert order.objects == ("deploy/web",)
    assert order.cluster == ("--namespace", "shop", "--context", "prod", "-n", "till")


@pytest.mark.parametrize("command", [(), ("helm", "upgrade"), ("sh", "-c", "kubectl rollout restart")])
def test_no_other_command_is_changed(command):
    """Nobody knows where its flags would go."""
    assert led(command, FLAGS) is None
