"""A setting's kind is its type: how it is written, bounded and shown follows from nothing else."""

from __future__ import annotations

from dataclasses import fields, make_dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import pytest

from drainproxy import settings
from drainproxy.injector.annotations import Options
from drainproxy.kinds import Kind, OrOff, Port, meaning
from drainproxy.proxy.limits.routes import Timeouts
from drainproxy.routefile import Chosen

CLASSES = [*settings.ROOMS.values(), Options, Chosen, Timeouts]


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
def test_every_field_has_a_kind(of):
    """A type that says nothing of how its values are written, such as a bare float, is none."""
    for name, annotation in get_type_hints(of, include_extras=True).items():
        assert isinstance(meaning(annotation).kind, Kind), name


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
def test_a_field_may_be_renamed(of):
    """Nothing of what a setting takes, or how it is shown, hangs on its name."""
    hints = get_type_hints(of, include_extras=True)
    renamed = make_dataclass("Renamed", [(f"n{at}", hints[each.name]) for at, each in enumerate(fields(of))])
    assert [seen(row) for row in settings.rows("", renamed)] == [seen(row) for row in settings.rows("", of)]


def seen(row: settings.Setting) -> tuple[str, str, bool, bool]:
    """What people see of a kind; a choice is made anew each time it is asked for."""
    return row.kind.metavar, row.kind.allowed, row.many, row.may_be_off


@pytest.mark.parametrize(
    ("annotation", "many", "may_be_off"),
    [
        (Port, False, False),
        (Port | None, False, False),
        (tuple[Port, ...], True, False),
        (tuple[Port, ...] | None, True, False),
        (OrOff[Port], False, True),
    ],
)
def test_a_list_an_optional_one_and_what_may_be_off(annotation, many, may_be_off):
    """Around a kind, the type says these three."""
    assert meaning(annotation) == (get_args(Port)[1], many, may_be_off)


def test_a_choice_is_a_kind_by_itself():
    """Its words are its type."""
    kind = meaning(Literal["one", "other"] | None).kind
    assert kind.read("other") == "other"
    with pytest.raises(ValueError, match="is unknown"):
        kind.read("another")


@pytest.mark.parametrize("annotation", [float, int | None, tuple[str, ...], Annotated[int, "no kind"]])
def test_a_type_alone_is_no_kind(annotation):
    """A number without a unit is what settings are not."""
    with pytest.raises(TypeError, match="is no kind of setting: see drainproxy/kinds.py"):
        meaning(annotation)
