"""Do a pod's timers and hooks fit together? What is read in its spec, as sentences that name the fix.

Pure. Called at start where `rbac` lets the pod be read, and by `drainproxy check`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from drainproxy.addresses import ListenAddress
from drainproxy.podspec import DEFAULT_GRACE_S, PROBES, WAIT_PATH, applications, pre_stop, sidecar, sleeps


def spec_problems(
    spec: Mapping[str, Any],
    grace_s: float | None,
    propagation_max_s: float,
    admin: ListenAddress | None = None,
) -> list[str]:
    """Return what is wrong with a PodSpec. `grace_s`, `admin`: what the settings say, None if unknown."""
    return [
        *_grace(spec, grace_s),
        *_admin(admin),
        *_our_container(spec, propagation_max_s, admin),
        *hook_problems(spec, admin),
    ]


def _admin(admin: ListenAddress | None) -> Iterator[str]:
    if admin is not None and admin.loopback:
        yield (
            f"admin is {admin}, and the kubelet, which asks from outside of the pod, finds neither hooks"
            f" nor probes there; set admin to :{admin.port}"
        )


def _grace(spec: Mapping[str, Any], grace_s: float | None) -> Iterator[str]:
    real = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    if grace_s is not None and grace_s > real:
        yield (
            f"grace_period is {grace_s:g} s, but terminationGracePeriodSeconds {real:g} s:"
            f" set terminationGracePeriodSeconds to {grace_s:g}, or grace_period to {real:g}s"
        )


def _our_container(
    spec: Mapping[str, Any], propagation_max_s: float, admin: ListenAddress | None
) -> Iterator[str]:
    ours, native = sidecar(spec)
    if ours is None:
        return
    command = [str(word) for word in pre_stop(ours).get("exec", {}).get("command") or ()]
    if native and "drain" not in command:
        yield (
            "a native sidecar gets SIGTERM only after the application has ended: give its container"
            " preStop exec [drainproxy, drain, --prestop]"
        )
    probe = ours.get("readinessProbe")
    if probe is None:
        yield (
            "the drainproxy container has no readinessProbe: Services choose this pod before the application"
            " is up; add httpGet /readyz on the admin port"
        )
        return
    ports = {port["name"]: port["containerPort"] for port in ours.get("ports") or () if "name" in port}
    for name in PROBES:
        asked = (ours.get(name) or {}).get("httpGet")
        if asked and (why := _misses(asked, admin, ports)):
            yield f"the drainproxy container's {name} goes elsewhere: {why}"
    fails_s = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if fails_s > propagation_max_s:
        yield (
            f"the readinessProbe takes {fails_s:g} s to fail, longer than propagation_max"
            f" {propagation_max_s:g} s: after a restart nobody hears of the drain;"
            " lower periodSeconds or failureThreshold"
        )


def hook_problems(spec: Mapping[str, Any], admin: ListenAddress | None) -> Iterator[str]:
    """Yield what is wrong with the hooks of those whom we keep alive."""
    waits = f"httpGet {WAIT_PATH} on drainproxy's admin port"
    for container in applications(spec):
        hook, name = pre_stop(container), container.get("name")
        asked = hook.get("httpGet") or {}
        if asked.get("path") == WAIT_PATH:
            if isinstance(asked.get("port"), str) and not asked["port"].isdecimal():
                yield f"container {name}: write the preStop hook's port as a number, a name is not its own"
            elif why := _misses(asked, admin, {}):
                yield f"container {name}: its preStop hook waits for nothing: {why}"
        elif not hook:
            yield (
                f"container {name} has no preStop hook: it gets SIGTERM at once and refuses what still comes;"
                f" add {waits}"
            )
        elif sleeps(hook):
            yield (
                f"container {name} only sleeps in its preStop hook, and ends in mid drain if that is over"
                f" first; replace it by {waits}"
            )
        elif not _waits(hook, admin):
            yield f"container {name} has another preStop hook: it ends in mid drain if that is over first"


def _misses(asked: Mapping[str, Any], admin: ListenAddress | None, ports: Mapping[str, int]) -> str:
    """Say why what the kubelet asks does not come to the admin port; empty where it does."""
    port = ports.get(str(asked.get("port")), asked.get("port"))
    if admin is not None and str(port) != str(admin.port):
        return f"port {asked.get('port')} is not the admin port; write {admin.port}"
    if asked.get("scheme", "HTTP") != "HTTP":
        return f"the admin port speaks no {asked['scheme']}; write scheme: HTTP"
    if host := asked.get("host"):
        return f"the kubelet asks {host} from the node; leave host out, and it asks the pod"
    return ""


def _waits(hook: Mapping[str, Any], admin: ListenAddress | None) -> bool:
    """Tell whether a command asks what the hook should ask."""
    command = " ".join(str(word) for word in (hook.get("exec") or {}).get("command") or ())
    return f":{admin.port if admin else ''}{WAIT_PATH}" in command
