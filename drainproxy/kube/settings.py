"""The cluster room's settings. The string under each field is the manual (docs/configuration.md)."""

from dataclasses import dataclass
from typing import Literal

from drainproxy.kinds import Directory, File, IpAddress, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """None means "not set". A pod that knows neither its name nor its UID asks the cluster nothing."""

    pod_name: Text | None = None
    """This pod's metadata.name, by the Downward API."""

    pod_namespace: Text | None = None
    """This pod's metadata.namespace, by the Downward API."""

    pod_uid: Text | None = None
    """This pod's metadata.uid, by the Downward API: the rows of EndpointSlices are recognised by it.
    Default: by the pod's name."""

    node_name: Text | None = None
    """This pod's spec.nodeName, by the Downward API: who else is ready is counted for the node too."""

    workload: Text | None = None
    """What reports call the workload of this pod. Default: the pod's name without what a controller has added
    to it, so web for web-5d4f7c9b8-x2x9k and for web-0."""

    pod_ips: tuple[IpAddress, ...] = ()
    """This pod's status.podIPs, by the Downward API: where pod in `listen` is."""

    host_ips: tuple[Text, ...] = ()
    """This pod's status.hostIP, by the Downward API: what comes from there or from the default gateway
    is taken for the kubelet, which has places of its own on the admin port."""

    rbac: Literal["none", "slices", "slices+pod", "slices+pod+events", "slices+pod+events+pod-cost"] = (
        "slices"
    )
    """What the pod's ServiceAccount may do, and so what is asked: nothing; get, list and watch
    endpointslices; get pods beside them; create events (events.k8s.io) beside those; patch pods beside all
    of it, for the annotation by which a ReplicaSet deletes idle pods first."""

    events: Literal["off", "incomplete", "all"] = "incomplete"
    """Which Kubernetes Events are written where `rbac` allows it: none, DrainIncomplete, or DrainStarted
    and DrainCompleted as well."""

    kubernetes_credentials: Directory = "/var/run/secrets/kubernetes.io/serviceaccount"
    """Where the ServiceAccount's token and ca.crt are."""

    kubeconfig: File | None = None
    """File with the way to the cluster, for development. Default: the pod's own credentials."""
