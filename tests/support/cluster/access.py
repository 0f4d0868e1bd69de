"""Who may do what: bearer tokens, and RBAC as Roles grant it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drainproxy.kube.permissions import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.cluster.resources import Target


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role in `namespace`; None is a ClusterRole's. A star matches everything."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    namespace: str | None = None
    names: tuple[str, ...] = ()

    def allows(self, verb: str, group: str, resource: str, namespace: str | None, name: str | None) -> bool:
        """Tell whether it grants this."""
        return (
            self.group in ("*", group)
            and self.resource in ("*", resource)
            and (verb in self.verbs or "*" in self.verbs)
            and self.namespace in (None, namespace)
            and (not self.names or name in self.names)
        )


EVERYTHING = Rule("*", "*", ("*",))


def tier(name: str, namespace: str) -> tuple[Rule, ...]:
    """Return what a tier of the setting `rbac` grants in a namespace."""
    rules = (
        Rule("discovery.k8s.io", "endpointslices", ("get", "list", "watch"), namespace),
        Rule("", "pods", ("get",), namespace),
        Rule("events.k8s.io", "events", ("create",), namespace),
        Rule("", "pods", ("patch",), namespace),
    )
    return rules[: list(TIERS).index(name)]


@dataclass(slots=True)
class Subject:
    """Somebody with a token. `rules` may be replaced while it runs."""

    name: str
    rules: tuple[Rule, ...]

    def may(self, verb: str, group: str, resource: str, namespace: str | None, name: str | None) -> bool:
        """Tell whether any rule grants this. Whoever is known may ask about itself (system:basic-user)."""
        if group == "authorization.k8s.io" and resource.startswith("selfsubject"):
            return True
        return any(rule.allows(verb, group, resource, namespace, name) for rule in self.rules)


@dataclass(slots=True)
class Access:
    """Every token that counts, and whose it is."""

    subjects: dict[str, Subject] = field(default_factory=dict)

    def admit(self, token: str, name: str, rules: Iterable[Rule]) -> Subject:
        """Let `token` be `name`'s."""
        self.subjects[token] = Subject(name, tuple(rules))
        return self.subjects[token]

    def rotate(self, old: str, new: str) -> None:
        """Let `new` count instead of `old`."""
        self.subjects[new] = self.subjects.pop(old)

    def who(self, authorization: str) -> Subject | None:
        """Return whose Authorization field this is."""
        scheme, _, token = authorization.partition(" ")
        return self.subjects.get(token) if scheme == "Bearer" else None


def refusal(subject: Subject, verb: str, target: Target) -> str:
    """Return the sentence of a 403."""
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    which = f'{target.resource.full_name} "{target.name}"' if target.name else target.resource.full_name
    return (
        f'{which} is forbidden: User "{subject.name}" cannot {verb} resource "{target.resource.plural}" '
        f'in API group "{target.resource.group}" {where}'
    )


def access_review(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a SelfSubjectAccessReview."""
    asked = spec.get("resourceAttributes") or {}
    place = (asked.get("group", ""), asked.get("resource", ""), asked.get("namespace"), asked.get("name"))
    allowed = subject.may(asked.get("verb", ""), *place)
    return {"allowed": allowed, **({"reason": "RBAC: allowed by Role"} if allowed else {})}


def subject_review(access: Access, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a SubjectAccessReview: somebody asks about somebody else."""
    for subject in access.subjects.values():
        if subject.name == spec.get("user"):
            return access_review(subject, spec)
    return {"allowed": False}
