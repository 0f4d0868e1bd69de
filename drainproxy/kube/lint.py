"""Do a pod's timers and hooks fit together? What is read in its spec, as sentences that name the fix.

Pure. Called at start where `rbac` lets the pod be read, and by `drainproxy check`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from drainproxy.podspec import DEFAULT_GRACE_S, WAIT_PATH, applications, pre_stop, sidecar, sleeps


def spec_problems(spec: Mapping[str, Any], grace_s: float | None, propagation_max_s: float) -> list[str]:
    """Return what is wrong with a PodSpec. `grace_s`: what the settings say it is."""
    return [*_grace(spec, grace_s), *_our_container(spec, propagation_max_s), *_hooks(spec)]


def _grace(spec: Mapping[str, Any], grace_s: float | None) -> Iterator[str]:
    real = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    if grace_s is not None and grace_s > real:
        yield (
            f"grace_period is {grace_s:g} s, but terminationGracePeriodSeconds {real:g} s:"
            f" set terminationGracePeriodSeconds to {grace_s:g}, or grace_period to {real:g}s"
        )


def _our_container(spec: Mapping[str, Any], propagation_max_s: float) -> Iterator[str]:
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
    fails_s = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if fails_s > propagation_max_s:
        yield (
            f"the readinessProbe takes {fails_s:g} s to fail, longer than propagation_max"
            f" {propagation_max_s:g} s: after a restart nobody hears of the drain;"
            " lower periodSeconds or failureThreshold"
        )


def _hooks(spec: Mapping[str, Any]) -> Iterator[str]:
    for container in applications(spec):
        hook, name = pre_stop(container), container.get("name")
        if hook.get("httpGet", {}).get("path") == WAIT_PATH:
            if isinstance(hook["httpGet"].get("port"), str):
                yield f"container {name}: write the preStop hook's port as a number, a name is not its own"
        elif not hook:
            yield (
                f"container {name} has no preStop hook: it gets SIGTERM at once and refuses what still comes;"
                f" add httpGet {WAIT_PATH} on drainproxy's admin port"
            )
        elif sleeps(hook):
            yield (
                f"container {name} only sleeps in its preStop hook, and ends in mid drain if that is over"
                f" first; replace it by httpGet {WAIT_PATH} on drainproxy's admin port"
            )
        else:
            yield f"container {name} has another preStop hook: it ends in mid drain if that is over first"
