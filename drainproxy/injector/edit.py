"""Changes one YAML document in place: what is not changed keeps every byte, comments and quotes included.

Pure. It works on positions in the text, found by PyYAML, and knows the operations that patch.py makes: add
to a mapping, append to a list, replace and remove. Where a change would reach through an alias or a merge
key, what that stands for is written out in its place, and nowhere else. The result is read again and compared
with what it should say, so what this cannot change is an error that names a line, and never a wrong document.
Called by manifest.py.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ALIAS = "*"
MERGE = "<<"


class CannotEdit(Exception):
    """The document is written in a way that this cannot change; says which, and in which line from 0."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


class _Tree:
    """A document as nodes, with their positions; a reference to an anchor stays a word where it stands.

    Made of the loader's own events, so that whatever was read can be found again.
    """

    def __init__(self, text: str) -> None:
        self.anchored: dict[int, str] = {}
        """Nodes, by their identity, and what they are called."""
        self.root: Any = None
        parents: list[Any] = []
        event: Any
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.CollectionEndEvent):
                parents.pop().end_mark = event.end_mark
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event)
                if parents:
                    parents[-1].value.append(node)
                else:
                    self.root = node
                if isinstance(node, yaml.CollectionNode):
                    parents.append(node)
        self._pair_keys()

    def _node(self, event: Any) -> Any:
        begin, end = event.start_mark, event.end_mark
        if isinstance(event, yaml.AliasEvent):
            return yaml.ScalarNode(ALIAS, event.anchor, begin, end)
        node: Any
        if isinstance(event, yaml.ScalarEvent):
            node = yaml.ScalarNode("", event.value, begin, end)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = yaml.SequenceNode("", [], begin, None, flow_style=event.flow_style)
        else:
            node = yaml.MappingNode("", [], begin, None, flow_style=event.flow_style)
        if event.anchor is not None:
            self.anchored[id(node)] = event.anchor
        return node

    def _pair_keys(self) -> None:
        """Keys and values have come one by one."""
        left = [self.root]
        while left:
            node = left.pop()
            if isinstance(node, yaml.CollectionNode):
                left += node.value
                if isinstance(node, yaml.MappingNode):
                    node.value = list(zip(node.value[::2], node.value[1::2], strict=True))


def edit(text: str, operations: Iterable[dict[str, Any]], expected: Any) -> str:
    """Return the document `text` after `operations` (RFC 6902, paths in the original) made it `expected`.

    Raises CannotEdit.
    """
    # libyaml does not count it.
    mark = text[:1] if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    tree = _Tree(text)
    work = _Edit(text, tree.root, expected, tree.anchored)
    for operation in operations:
        work.apply(operation)
    work.write_out_what_shared()
    # From the end, so that positions stay true; what is added at one place stays in order.
    splices = sorted(work.splices, key=lambda each: each[:2])
    breaks = "\r\n" if text.count("\r\n") == text.count("\n") else "\n"
    for begin, end, new in reversed(splices):
        text = text[:begin] + new.replace("\n", breaks) + text[end:]
    try:
        said = yaml.load(text, Loader=LOADER)  # noqa: S506 - it is a safe one
    except yaml.YAMLError:
        said = None
    if said != expected:
        raise CannotEdit("what changes has to stand in block style, without anchors and braces", work.line)
    return mark + text


def line_of(text: str, path: Iterable[str | int]) -> int:
    """Return the line, from 0, in which what a path leads to is written; of its nearest parent otherwise."""
    node = _Tree(text).root
    line = int(node.start_mark.line)
    for part in path:
        found = _child(node, str(part))
        if found is None:
            return line
        key, node = found
        line = int((node if key is None else key).start_mark.line)
    return line


@dataclass(slots=True)
class _Edit:
    """One document being changed. `splices` are positions and what goes there."""

    text: str
    root: Any
    expected: Any
    anchored: dict[int, str]
    splices: list[tuple[int, int, str]] = field(default_factory=list)
    line: int = 0
    """Of the last change."""
    _written: set[tuple[str, ...]] = field(default_factory=set)
    """Paths of what was written out as a whole: nothing below them is changed any more."""
    _changed: set[str] = field(default_factory=set)
    """Anchors of what was changed."""

    def apply(self, operation: dict[str, Any]) -> None:
        """Note what one operation changes."""
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        node, parent = self.root, None
        for i, part in enumerate(parents):
            if (found := self._step(node, parent, part, parents[:i])) is None:
                return
            parent, node = node, found
        if tuple(parents) in self._written:
            return
        if node.tag == ALIAS:
            self._write_out(node, parent, parents)
            return
        self._pass(node)
        if operation["op"] == "add":
            self._insert(node, operation["value"] if last == "-" else {last: operation["value"]})
        elif (pair := _child(node, last)) is None:
            # It comes from a merge key: an own one wins, and one that must go takes the merge along.
            if operation["op"] == "replace" and _merges(node):
                self._insert(node, {last: operation["value"]})
            else:
                self._write_out(node, parent, parents)
        elif operation["op"] == "replace":
            self._replace(node, pair[1], operation["value"])
        elif _merges(node):
            self._write_out(node, parent, parents)
        else:
            self.splices.append(_remove(self.text, node, *pair))

    def write_out_what_shared(self) -> None:
        """Write out the aliases of what was changed: they mean what it was before."""
        for node, parent, path in _aliases(self.root, None, ()):
            if node.value not in self._changed or any(
                path[:i] in self._written for i in range(len(path) + 1)
            ):
                continue
            if MERGE in path:
                self.line = node.start_mark.line
                raise CannotEdit(f"&{node.value} changes, and is merged elsewhere: write it out", self.line)
            self._write_out(node, parent, list(path))

    def _step(self, node: Any, parent: Any, part: str, path: list[str]) -> Any:
        """Return the child to go on with; None where what is above it is written out."""
        if any(tuple(path[:i]) in self._written for i in range(len(path) + 1)):
            return None
        if node.tag == ALIAS:
            self._write_out(node, parent, path)
            return None
        self._pass(node)
        if (pair := _child(node, part)) is not None:
            return pair[1]
        if (*path, part) in self._written:
            return None
        if not _merges(node):
            raise CannotEdit(f"{part} is not there", self.line)
        self._written.add((*path, part))
        self._insert(node, {part: _at(self.expected, [*path, part])})
        return None

    def _pass(self, node: Any) -> None:
        self.line = node.start_mark.line
        if id(node) in self.anchored:
            self._changed.add(self.anchored[id(node)])

    def _write_out(self, node: Any, parent: Any, path: list[str]) -> None:
        """Put what is expected in the place of a node."""
        self.line = node.start_mark.line
        self._written.add(tuple(path))
        begin, end = node.start_mark.index, _end(node)
        # What stands below it is not changed any more, whatever was noted before.
        self.splices = [each for each in self.splices if not begin <= each[0] <= end]
        self._replace(parent, node, _at(self.expected, path))

    def _replace(self, parent: Any, node: Any, value: Any) -> None:
        """Put a value in the place of a node."""
        begin, end = node.start_mark.index, _end(node)
        if parent is None or parent.flow_style or not isinstance(value, dict | list) or not value:
            empty = begin == end and self.text[begin - 1 : begin] not in (" ", "")
            self.splices.append((begin, end, (" " if empty else "") + json.dumps(value)))
            return
        in_list = isinstance(parent, yaml.SequenceNode)
        indent = " " * (node.start_mark.column if in_list else _column(self.text, parent) + 2)
        lines = yaml.safe_dump(value, sort_keys=False, width=4096).splitlines()
        block = "\n".join(lines[:1] + [indent + line for line in lines[1:]])
        same_line = in_list or "\n" in self.text[_key_end(parent, node) : begin]
        if same_line:
            self.splices.append((begin, end, block))
        else:
            # Behind its key stands a blank, which goes.
            blank = self.text[begin - 1 : begin] == " "
            self.splices.append((begin - blank, end, f"\n{indent}{block}"))

    def _insert(self, node: Any, value: Any) -> None:
        """Add `value`, an item or a mapping of one key, at the end of a collection."""
        text = self.text
        if not isinstance(node, yaml.CollectionNode):
            raise CannotEdit("it is neither a list nor a mapping", self.line)
        if node.flow_style:
            flow = json.dumps(value)
            at = node.end_mark.index - 1
            since = re.sub(r"#[^\n]*", "", text[_last(node) : at])
            behind = any(each[:2] == (at, at) for each in self.splices)
            before = ", " if behind or (node.value and "," not in since) else ""
            new = before + (flow[1:-1] if isinstance(node, yaml.MappingNode) else flow)
            self.splices.append((at, at, new))
            return
        item = [value] if isinstance(node, yaml.SequenceNode) else value
        lines = yaml.safe_dump(item, sort_keys=False, width=4096).splitlines()
        indent = " " * _column(text, node)
        at = _line_end(text, _end(node))
        before = "" if text[:at].endswith("\n") else "\n"
        self.splices.append((at, at, before + "".join(f"{indent}{line}\n" for line in lines)))


def _child(node: Any, part: str) -> tuple[Any, Any] | None:
    """Return the key, None of a list, and the value; the last of a key that comes twice, as loaders do."""
    if isinstance(node, yaml.SequenceNode):
        return (None, node.value[int(part)]) if part.isdecimal() and int(part) < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in reversed(node.value) if pair[0].value == part), None)
    return None


def _merges(node: Any) -> bool:
    return isinstance(node, yaml.MappingNode) and any(key.value == MERGE for key, _ in node.value)


def _aliases(node: Any, parent: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, Any, tuple[str, ...]]]:
    if node.tag == ALIAS:
        yield node, parent, path
    elif isinstance(node, yaml.SequenceNode):
        for i, each in enumerate(node.value):
            yield from _aliases(each, node, (*path, str(i)))
    elif isinstance(node, yaml.MappingNode):
        for key, each in node.value:
            yield from _aliases(each, node, (*path, str(key.value)))


def _at(value: Any, path: Iterable[str]) -> Any:
    for part in path:
        if isinstance(value, list):
            value = value[int(part)]
        else:
            # A key may be a number or a truth.
            value = next(each for key, each in value.items() if str(key) == part)
    return value


def _column(text: str, node: Any) -> int:
    """Return where a block's keys or dashes begin: its own mark may be its anchor's."""
    if isinstance(node, yaml.MappingNode):
        return int(node.value[0][0].start_mark.column)
    dash = text.rfind("-", 0, node.value[0].start_mark.index)
    return dash - (text.rfind("\n", 0, dash) + 1)


def _key_end(parent: Any, node: Any) -> int:
    """Return where the key of a value ends."""
    return next((int(key.end_mark.index) for key, value in parent.value if value is node), 0)


def _last(node: Any) -> int:
    """Return where the last of a flow collection's items ends."""
    if not node.value:
        return int(node.start_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _remove(text: str, node: Any, key: Any, value: Any) -> tuple[int, int, str]:
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
