"""Changes one YAML document in place: what is not changed keeps every byte, comments and quotes included.

Pure. It works on positions in the text, found by PyYAML, and knows the operations that patch.py makes: add
to a mapping, append to a list, replace and remove. The result is read again and compared with what it should
say, so what this cannot change (anchors, for one) is an error and never a wrong document. Called by
manifest.py.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import yaml


class CannotEdit(Exception):
    """The document is written in a way that this cannot change; says which."""


class _Loader(yaml.SafeLoader):
    """Leaves a reference to an anchor where it stands: what it refers to is another place."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return a reference as a word."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode("*", event.anchor, event.start_mark, event.end_mark)
        return super().compose_node(parent, index)


def edit(text: str, operations: Iterable[dict[str, Any]], expected: Any) -> str:
    """Return the document `text` after `operations` (RFC 6902, paths in the original) made it `expected`.

    Raises CannotEdit.
    """
    root: Any = yaml.compose(text, Loader=_Loader)
    splices = [splice for operation in operations for splice in _splices(text, root, operation)]
    # From the end, so that positions stay true; what is added at one place stays in order.
    splices.sort(key=lambda each: each[:2])
    breaks = "\r\n" if text.count("\r\n") == text.count("\n") else "\n"
    for begin, end, new in reversed(splices):
        text = text[:begin] + new.replace("\n", breaks) + text[end:]
    try:
        said = yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        said = None
    if said != expected:
        raise CannotEdit("what changes has to stand in block style, without anchors and braces")
    return text


def _splices(text: str, root: Any, operation: dict[str, Any]) -> Iterator[tuple[int, int, str]]:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    node = root
    for part in parents:
        node = _child(node, part)
    if operation["op"] == "add":
        yield _insert(text, node, operation["value"] if last == "-" else {last: operation["value"]})
    elif operation["op"] == "replace":
        old = _child(node, last)
        empty = old.start_mark.index == old.end_mark.index
        new = (" " if empty else "") + json.dumps(operation["value"])
        yield old.start_mark.index, _end(old), new
    else:
        yield _remove(text, node, last)


def _child(node: Any, part: str) -> Any:
    return node.value[int(part)] if isinstance(node, yaml.SequenceNode) else _pair(node, part)[1]


def _pair(node: Any, name: str) -> tuple[Any, Any]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key, value
    raise CannotEdit(f"{name} stands behind an anchor: write it out")


def _insert(text: str, node: Any, value: Any) -> tuple[int, int, str]:
    """Add `value`, an item or a mapping of one key, at the end of a collection."""
    if node.flow_style:
        flow = json.dumps(value)
        at = node.end_mark.index - 1
        before = ", " if node.value else ""
        return at, at, before + (flow[1:-1] if isinstance(node, yaml.MappingNode) else flow)
    item = [value] if isinstance(node, yaml.SequenceNode) else value
    lines = yaml.safe_dump(item, sort_keys=False, width=4096).splitlines()
    indent = " " * node.start_mark.column
    at = _line_end(text, _end(node))
    before = "" if text[:at].endswith("\n") else "\n"
    return at, at, before + "".join(f"{indent}{line}\n" for line in lines)


def _remove(text: str, node: Any, name: str) -> tuple[int, int, str]:
    key, value = _pair(node, name)
    at = node.value.index((key, value))
    begin = key.start_mark.index
    after = node.value[at + 1][0].start_mark.index if at + 1 < len(node.value) else None
    if node.flow_style:
        if after is not None:
            return begin, after, ""
        return (_end(node.value[at - 1][1]) if at else begin), _end(value), ""
    line, end = text.rfind("\n", 0, begin) + 1, _line_end(text, _end(value))
    comment = text[_end(value) : end].strip()
    if text[line:begin].strip(" ") and after is not None:
        # The first key of a list's item stands behind the dash.
        return begin, _end(value) if comment else after, ""
    return line, end, f"{text[line:begin]}{comment}\n" if comment else ""


def _end(node: Any) -> int:
    """Return where a node's text ends: a block's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, at: int) -> int:
    """Return where the line after the one of `at` begins; `at` itself where that is a beginning."""
    if at and text[at - 1] == "\n":
        return at
    newline = text.find("\n", at)
    return len(text) if newline < 0 else newline + 1
