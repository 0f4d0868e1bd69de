"""The label alone is enough: which ports of a pod are captured, through which door, and what is said."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from drainproxy.errors import InjectionRefused
from drainproxy.injector.capture import ENFORCED
from drainproxy.injector.manifest import process
from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from drainproxy.injector.pod_checks import Around
from tests.chart.standards import VERSIONS, assert_valid
from tests.injector.pods import ISTIO, LINKERD, PREFIX, Row, pod, wished
from tests.injector.shapes import DOORS, SHAPES, Shape, asks, bare, box, named, service
from tests.injector.ways import by_file, by_webhook

ALLOWED = InjectorDefaults(kubernetes=(1, 36), redirect_image="example/drainproxy:1-redirect")
FORBIDDEN = replace(ALLOWED, redirect_image="")
NEEDS = {"env": ("app-port-env", "PORT"), "address": ("app-host-env", "HOST")}
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def each(shapes: list[Shape]):
    return pytest.mark.parametrize("shape", shapes, ids=[shape.id for shape in shapes])


def made_of(
    shape: Shape, defaults: InjectorDefaults = ALLOWED, **options: str
) -> Injected | InjectionRefused:
    """Return what becomes of a shape."""
    thing = copy.deepcopy(shape.pod)
    thing["metadata"]["annotations"] = {
        f"{PREFIX}{name.replace('_', '-')}": text for name, text in options.items()
    }
    try:
        made = inject(thing, defaults, "shop", around=Around(services=shape.services))
    except InjectionRefused as refusal:
        return refusal
    assert isinstance(made, Injected)
    return made


def through(shape: Shape, door: str, defaults: InjectorDefaults = ALLOWED) -> Injected | InjectionRefused:
    """Return what becomes of a shape that asks for a door, with what the door needs."""
    name, variable = NEEDS.get(door, ("", ""))
    count = len(shape.ports) if door == "env" else 1
    told = {name: ",".join([variable, *(f"{variable}_{i}" for i in range(1, count))])} if name else {}
    return made_of(shape, defaults, capture=door, **told)


def ports(made: Injected) -> tuple[str, ...]:
    return tuple(f"{port.name} {port.number}" for port in made.capture.ports)


@each(SHAPES)
def test_by_its_label_alone(shape):
    """With redirect allowed, and without, each shape is captured as it says, or the reason is."""
    for defaults, door in ((FORBIDDEN, shape.without), (ALLOWED, shape.allowed or shape.without)):
        made = made_of(shape, defaults)
        if not door:
            assert isinstance(made, InjectionRefused)
            assert len(made.problems) == 1
            if shape.refused:
                assert made.problems[0].startswith(shape.refused)
            else:
                assert "redirect is not allowed here" in made.problems[0]
                assert "app-host-env" in made.problems[0]
            continue
        assert isinstance(made, Injected), made
        assert made.capture.door == door
        if door == "redirect":
            numbers = {port.split()[-1] for port in shape.ports}
            assert {port.split()[-1] for port in ports(made)} == numbers
        elif shape.partly:
            assert ports(made) == tuple(port for port in shape.ports if port[0] != " ")
            assert any("around the sidecar" in sentence for sentence in made.said)
        else:
            assert ports(made) == shape.ports


@pytest.mark.parametrize("door", DOORS)
@each(SHAPES)
def test_by_each_door(shape, door):
    """One that was asked for is taken, or the reason is said; each pod is what Kubernetes takes."""
    made = through(shape, door)
    if reason := shape.doors.get(door):
        assert isinstance(made, InjectionRefused), made
        assert made.problems[0].startswith(reason)
        return
    assert isinstance(made, Injected), made
    assert made.capture.door == door
    assert_valid([made.pod])
    assert_whole(shape, made)


def assert_whole(shape: Shape, made: Injected) -> None:
    """Assert that callers, probes and names lead where they are to, and nothing else has changed."""
    before, spec = shape.pod["spec"], made.pod["spec"]
    ours = [
        container
        for container in (*spec.get("initContainers", ()), *spec["containers"])
        if container["name"].startswith("drainproxy")
    ]
    assert len(ours) == (2 if made.capture.door == "redirect" else 1)
    pairs = list(zip(before["containers"], spec["containers"], strict=False))
    if made.capture.door in ("address", "redirect"):
        for was, now in pairs:
            assert now["ports"] == was["ports"], "numbers and names stay"
            for probe in PROBES:
                assert now.get(probe) == was.get(probe)
        assert {taken.callers for taken in made.taken} == {int(port.split()[-1]) for port in shape.ports}
    else:
        names = [port.get("name") for _, now in pairs for port in now["ports"]]
        assert {port.split(" ")[0] for port in shape.ports if port[0] != " "}.isdisjoint(names)
    numbers = {port["containerPort"] for _, now in pairs for port in now["ports"]}
    for _, now in pairs:
        for probe in filter(None, (now.get(name) for name in PROBES)):
            for handler in probe.values():
                known = {port.get("name") for port in now["ports"]} | numbers | {9000, 10254}
                assert not isinstance(handler, dict) or handler["port"] in known
    told = [variable for _, now in pairs for variable in now.get("env", ())]
    assert bool(told) == (made.capture.door in ("env", "address"))


@each(SHAPES)
def test_a_file_and_the_webhook_agree(shape):
    """Where both know the same they make the same pod; what Services say only a file has beside it."""
    alone = replace(shape, services=())
    row = Row(id=shape.id, pod=shape.pod)
    for defaults in (ALLOWED, FORBIDDEN):
        assert by_file(row, defaults) == by_webhook(row, defaults)
        made = made_of(alone, defaults)
        said = list(made.said) if isinstance(made, Injected) else made.problems
        assert by_webhook(row, defaults)[1] == said


@pytest.mark.parametrize("version", VERSIONS)
@each([shape for shape in SHAPES if shape.http])
def test_no_version_loses_a_name(shape, version):
    """Before 1.33 a name that moves takes a plain sidecar, or another door: every Service finds its port."""
    major, minor = map(int, version.split(".")[:2])
    for defaults in (ALLOWED, FORBIDDEN):
        made = made_of(shape, replace(defaults, kubernetes=(major, minor)))
        if isinstance(made, InjectionRefused):
            assert not defaults.redirect_image
            continue
        spec = made.pod["spec"]
        held = [*spec["containers"], *(spec["initContainers"] if minor >= 33 else ())]
        names = {port.get("name") for container in held for port in container.get("ports", ())}
        assert {port.split(" ")[0] for port in shape.ports if port[0] != " "} <= names
        assert_valid([made.pod])


def test_the_label_is_enough():
    """For all of those that speak HTTP where redirect is allowed, and for more than six of ten without."""
    speak = [shape for shape in SHAPES if shape.http]
    caught = [shape for shape in speak if isinstance(made_of(shape), Injected)]
    alone = [shape for shape in speak if isinstance(made_of(shape, FORBIDDEN), Injected)]
    assert len(SHAPES) >= 60
    assert len(caught) == len(speak)
    assert len(alone) / len(speak) >= 0.6
    assert len({shape.id for shape in SHAPES}) == len(SHAPES)


BARE = bare("", pod(box("app", 8080, **asks(8080))), 8080)
NAMED = named("", pod(box("web", "http 8080")), "http 8080")


@pytest.mark.parametrize(
    ("level", "shape", "door"),
    [
        ("privileged", BARE, "redirect"),
        ("baseline", NAMED, "name"),
        ("restricted", NAMED, "name"),
        ("baseline", BARE, ""),
        ("restricted", BARE, ""),
    ],
)
def test_a_namespace_that_forbids_redirect(level, shape, door):
    """It gets the best other door, and a sentence where redirect was asked for; or the reason."""
    around = Around({ENFORCED: level})
    asked = copy.deepcopy(shape.pod)
    asked["metadata"]["annotations"] = {f"{PREFIX}capture": "redirect"}
    why = f"the namespace's PodSecurity level {level} does not allow redirect"
    for thing, sentence in ((shape.pod, ""), (asked, why)):
        if not door:
            with pytest.raises(InjectionRefused, match=why):
                inject(thing, ALLOWED, around=around)
            continue
        made = inject(thing, ALLOWED, around=around)
        assert isinstance(made, Injected)
        assert made.capture.door == door
        assert (sentence in made.said) == (bool(sentence) and door != "redirect")


def test_a_namespace_in_the_same_file():
    """Its level is known there."""
    namespace = {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": "shop", "labels": {ENFORCED: "baseline"}},
    }
    thing = copy.deepcopy(BARE.pod)
    thing["metadata"]["namespace"] = "shop"
    documents = process(yaml.safe_dump_all([namespace, thing]), ALLOWED, every=False)
    [workload] = [each for document in documents for each in document.workloads]
    assert "PodSecurity level baseline does not allow redirect" in str(workload.refusal)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            wished(box("a", "http 8080"), memory_limit="32Mi", memory_request="32Mi"),
            "memory-limit: 32Mi is below 48Mi",
        ),
        (
            wished(box("a", "http 8080"), memory_request="256Mi"),
            "memory-request: 256Mi is above memory-limit 128Mi",
        ),
        (
            wished(box("a", "http 8080"), run_as_user="2147483648"),
            "run-as-user: 2147483648 is above 2147483647",
        ),
        (wished(box("a", "http 8080"), ports="8080,8080"), "ports: it names a port twice"),
        (wished(box("a", "http 8080"), ports="http,8080"), "ports: http and http are the same port"),
        (wished(box("a", "http 8080"), upstream_port="1,1"), "upstream-port: it names a port twice"),
        (wished(box("a", "http 8080"), port="80"), "port: port 80 needs root"),
        (wished(box("a", "http 8080"), admin_port="443"), "admin-port: port 443 needs root"),
        (wished(box("a", "http 8080"), ports="-"), 'ports: "-" is not one'),
        (wished(box("a", "http 8080"), ports="99999"), 'ports: "99999" is not a port'),
        (
            wished(box("a", "http 8080"), capture="magic"),
            'capture: "magic" is unknown; write one of auto, name,',
        ),
        (wished(box("a", "http 8080"), capture="env"), "capture: env needs drainproxy.io/app-port-env"),
        (wished(box("a", "http 8080"), capture="name", app_host_env="HOST"), "capture: name and"),
        (wished(box("a", "http 8080"), app_port_env="PORT", app_host_env="HOST"), "app-port-env and"),
        (wished(box("a", 8080), app_host_env="HOST", ports="9999"), "no container declares port 9999"),
        (
            wished(box("a", 8080), app_host_env="HOST", ports="8080", upstream_host="pod"),
            "upstream-host: capture",
        ),
        (
            wished(box("a", 29900), ports="29900", capture="redirect"),
            "port 29900 is the sidecar's admin port",
        ),
        (
            pod(box("a", "http 8080"), volumes=[{"name": "drainproxy-token", "emptyDir": {}}]),
            "a volume is called",
        ),
        (
            pod(box("a", "http 8080"), initContainers=[{"name": "drainproxy", "image": "x"}]),
            "a container is called",
        ),
    ],
)
def test_never_a_pod_that_is_refused_on_our_account(made, said):
    """What an API server would not take, or could not work, is not injected, and the reason is said."""
    with pytest.raises(InjectionRefused, match=said.replace("(", r"\(")) as caught:
        inject(made, ALLOWED)
    assert len(caught.value.problems) == 1


def test_a_port_that_nobody_declares():
    """A container need not declare what it listens on: packets are led by the number."""
    made = inject(wished(box("a"), ports="9999"), ALLOWED)
    assert isinstance(made, Injected)
    assert (made.capture.door, [each.callers for each in made.taken]) == ("redirect", [9999])


def test_the_init_container_has_one_right():
    """Root, and NET_ADMIN; nothing of it can be chosen by an annotation."""
    made = through(BARE, "redirect")
    assert isinstance(made, Injected)
    writer, sidecar = made.pod["spec"]["initContainers"]
    assert (writer["name"], sidecar["name"]) == ("drainproxy-redirect", "drainproxy")
    assert writer["image"] == ALLOWED.redirect_image
    assert writer["args"] == ["redirect", "8080:28080"]
    assert writer["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": False,
        "runAsUser": 0,
        "runAsGroup": 0,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "restartPolicy" not in writer
    assert sidecar["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("proxy", [ISTIO, LINKERD])
def test_beside_a_mesh_a_port_without_a_name_has_no_door(proxy):
    """A mesh's proxy leads packets itself, and reaches the application over loopback."""
    made = copy.deepcopy(BARE.pod)
    made["spec"]["initContainers"] = [{**proxy, "restartPolicy": "Always"}]
    with pytest.raises(InjectionRefused, match="proxy leads packets itself, so that redirect would see none"):
        inject(made, ALLOWED)


def test_a_second_time_nothing_changes():
    """Whatever the door."""
    for door in DOORS:
        made = through(NAMED, door)
        assert isinstance(made, Injected)
        assert inject(made.pod, ALLOWED) == "the sidecar is there"


def test_a_service_by_its_number_takes_packets_along():
    """Where it is known that a Service leads to the number, a name that moves is not the first choice."""
    shape = replace(NAMED, services=(service(8080),))
    assert made_of(shape).capture.door == "redirect"
    assert made_of(shape, FORBIDDEN).capture.door == "name"


def test_the_picture_asks_what_is_asked():
    """One answer for each line of docs/capture.svg, in its order."""
    anything = {"containerPort": 8080}
    lines = [
        (wished(box("a", "http 8080"), upstream_port="8080"), FORBIDDEN, (), "explicit"),
        (pod(box("a", 8080)), ALLOWED, (), "left alone"),
        (wished(box("a", "http 8080"), app_port_env="PORT"), ALLOWED, (), "env"),
        (wished(box("a", "http 8080"), app_host_env="HOST"), ALLOWED, (), "address"),
        (pod(box("a", "http 8080")), ALLOWED, (service(8080),), "redirect"),
        (pod(box("a", "http 8080")), ALLOWED, (), "name"),
        (pod(box("a", anything, **asks(8080))), ALLOWED, (), "redirect"),
        (pod(box("a", "http 8080", 8081, **asks(8081))), FORBIDDEN, (), "name"),
        (pod(box("a", anything, **asks(8080))), FORBIDDEN, (), "left alone"),
    ]
    picture = ET.parse(Path(__file__).parents[2] / "docs" / "capture.svg")
    doors = ("explicit", "left alone", *DOORS)
    drawn = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text") if each.text in doors]
    found = []
    for made, defaults, services, _ in lines:
        try:
            outcome = inject(made, defaults, around=Around(services=services))
        except InjectionRefused:
            found.append("left alone")
        else:
            assert isinstance(outcome, Injected)
            found.append(outcome.capture.door)
    assert found == drawn == [door for *_, door in lines]
