"""Lists come in pieces of any size; what is no list is refused."""

from __future__ import annotations

import json

import pytest

from drainproxy.kube.listing import MAX_KEY_CHARS, MAX_VALUE_CHARS, ListReader, Malformed

ITEMS = [{"metadata": {"name": f'sl{i}"ce\\'}, "endpoints": [{"a": [i, None, "ä]}"]}]} for i in range(5)]
LIST = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": "7", "continue": ""}, "items": ITEMS}
TEXTS = {
    "compact": json.dumps(LIST, separators=(",", ":")),
    "pretty": json.dumps(LIST, indent=2) + "\n",
    "items first": json.dumps({"items": ITEMS, "metadata": LIST["metadata"], "kind": LIST["kind"]}),
}


def read(text: str, size: int):
    """Feed `text` in pieces of `size` characters."""
    items: list = []
    reader = ListReader(items.append)
    for at in range(0, len(text), size):
        reader.feed(text[at : at + size])
    reader.close()
    return items, reader.fields


@pytest.mark.parametrize("size", [1, 2, 3, 17, 10_000])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_list_is_read_in_pieces_of_any_size(text, size):
    """Where one piece ends is the network's business."""
    items, fields = read(text, size)
    assert items == ITEMS
    assert fields == {"kind": LIST["kind"], "metadata": LIST["metadata"]}


@pytest.mark.parametrize("text", ['{"items":null,"metadata":{}}', '{"metadata":{},"items":[]}'])
def test_an_empty_list_has_no_items(text):
    """Go writes null for a slice that was never made."""
    items, fields = read(text, 1)
    assert items == []
    assert fields["metadata"] == {}


@pytest.mark.parametrize("cut", range(1, len(TEXTS["compact"]), 7))
def test_a_list_that_is_cut_short_is_refused(cut):
    """Half a list would make rows look gone."""
    with pytest.raises(Malformed):
        read(TEXTS["compact"][:cut], 10)


@pytest.mark.parametrize(
    "text",
    [
        "<html><body>502</body></html>",
        "[]",
        '{"items":[1]}',
        '{"items":[{}]}}',
        '{"items":[{}]} {}',
        '{"items":[{"a":}]}',
        "{" + " " * 10 + "x" * (MAX_KEY_CHARS + 1),
        '{"items":[' + '{"a":' * 100_000,
        '{"items":[{"a":"' + "x" * (MAX_VALUE_CHARS + 1),
        "",
    ],
    ids=range(10),
)
def test_what_is_no_list_is_refused(text):
    """Proxies answer in HTML, and a broken server answers for ever."""
    with pytest.raises((Malformed, RecursionError)):
        read(text, 65536)


def test_items_are_forgotten_as_they_are_read():
    """What is held is one item, however many there are."""
    item = json.dumps({"metadata": {"name": "x" * 100}})
    reader = ListReader(lambda _: None)
    reader.feed('{"items":[')
    for _ in range(1000):
        reader.feed(item + ",")
        assert len(reader._text) < 2 * len(item) + 10
