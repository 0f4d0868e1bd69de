"""What a kubectl command does to pods, as it is written: which verb, on which objects, in which cluster.

Pure. A command that is not understood is None: then nobody claims to know when what it set off is over.
Called by aftermath.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

VERBS = frozenset(("restart", "undo", "scale", "delete", "drain", "apply", "patch", "set"))
"""Of which pods end. `rollout` is said before the first two."""

KUBECTLS = frozenset(("kubectl", "oc"))

_EVERYWHERE = {
    "-n": "--namespace",
    "-s": "--server",
    **dict.fromkeys(
        ("--namespace", "--context", "--kubeconfig", "--cluster", "--user", "--server", "--token")
    ),
    **dict.fromkeys(("--as", "--as-group", "--as-uid", "--as-user-extra", "--username", "--password")),
    **dict.fromkeys(("--certificate-authority", "--client-certificate", "--client-key", "--tls-server-name")),
    **dict.fromkeys(("--request-timeout", "--cache-dir", "--kuberc")),
}
"""Flags with a value that every command takes (kubectl options)."""
_EVERYWHERE_ALONE = frozenset(
    ("--insecure-skip-tls-verify", "--disable-compression", "--match-server-version")
)
_OBJECTS = frozenset(("-f", "--filename", "-k", "--kustomize", "-l", "--selector", "--field-selector"))
"""Flags with a value that say which objects."""
_OBJECTS_ALONE = frozenset(("-R", "--recursive", "--all", "-A", "--all-namespaces"))
_OTHERS = frozenset(
    (
        *("-o", "--output", "--replicas", "--current-replicas", "--resource-version", "--timeout"),
        *("--grace-period", "--cascade", "--dry-run", "--field-manager", "--template", "--to-revision"),
        *("--revision", "--pod-selector", "-p", "--patch", "--patch-file", "--type", "--subresource", "-c"),
        *("--containers", "--env", "--from", "--skip-wait-for-delete-timeout", "--chunk-size", "-v", "--v"),
        *("--prune-allowlist", "--applyset", "--limits", "--requests", "--prefix", "--keys", "--resource"),
    )
)
"""Further flags with a value."""
_SHORT = frozenset("nsflkopcv")
"""Letters of flags whose value may follow at once: -nshop."""


@dataclass(frozen=True, slots=True)
class Order:
    """`cluster`: the words that lead there, namespace included; `objects`: those that name what is meant."""

    program: str
    verb: str
    cluster: tuple[str, ...]
    objects: tuple[str, ...]

    def ask(self, *words: str) -> tuple[str, ...]:
        """Return another command to the same cluster."""
        return (self.program, *words, *self.cluster)


def led(words: tuple[str, ...], cluster: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return a kubectl command that is told which cluster is meant; None for any other command.

    Before its own words, of which the later one counts.
    """
    if not words or PurePath(words[0]).name not in KUBECTLS:
        return None
    return (words[0], *cluster, *words[1:])


def understood(words: tuple[str, ...]) -> Order | None:
    """Return what a command orders, None for what is not known, or changes nothing."""
    if not words or PurePath(words[0]).name not in KUBECTLS:
        return None
    said = list(_words(words[1:]))
    if any(name == "--dry-run" and value != "none" for name, value in said):
        return None
    verb, *named = _verb([value or "" for name, value in said if not name])
    objects = (*named, *_flags(said, {*_OBJECTS, *_OBJECTS_ALONE}))
    if verb not in VERBS or not objects or "-" in objects:
        # Standard input is nobody's here.
        return None
    return Order(words[0], verb, _flags(said, {*_EVERYWHERE, *_EVERYWHERE_ALONE}), objects)


def _verb(plain: list[str]) -> list[str]:
    """Return the verb and the objects, of the words that are no flags."""
    if plain[:1] == ["rollout"]:
        plain = plain[1:] if plain[1:2] in (["restart"], ["undo"]) else []
    if plain[:1] == ["set"]:
        # What is set, then on what, then the values.
        return [plain[0], *(word for word in plain[2:] if "=" not in word and not word.endswith("-"))]
    return plain or [""]


def _flags(said: list[tuple[str, str | None]], wanted: set[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name, value in said:
        if name in wanted:
            found += [name] if value is None else [name, value]
    return tuple(found)


def _words(words: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Yield each flag with its value, and each other word with no name."""
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--":
            yield from (("", each) for each in rest)
        elif not word.startswith("-") or word == "-":
            yield "", word
        elif not word.startswith("--") and len(word) > 2 and word[1] in _SHORT:
            yield word[:2], word[2:].removeprefix("=")
        elif equals:
            yield name, value
        elif name in _EVERYWHERE or name in _OBJECTS or name in _OTHERS:
            yield name, next(rest, "")
        else:
            yield name, None
