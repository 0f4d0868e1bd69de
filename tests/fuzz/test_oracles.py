"""Nearly good bytes through every door: what must hold for any bytes holds for these."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance import corpus
from tests.conformance.cases import RequestCase, ResponseCase
from tests.fuzz import oracles, sentences

OWN = [case for suite in corpus.load().values() for case in suite.cases]
ASKED = {case.name: case for case in OWN if isinstance(case, RequestCase)}
ANSWERED = {case.name: case for case in OWN if isinstance(case, ResponseCase)}


@settings(max_examples=600, deadline=None)
@given(sentences.pipelines, sentences.cuts)
def test_the_application_sees_what_strict_readers_see(data: bytes, cuts: list[int]):
    """Requests are forwarded as the client meant them or not at all, wherever the bytes were cut."""
    oracles.client_bytes(data, cuts)


@settings(max_examples=600, deadline=None)
@given(sentences.responses, sentences.cuts, st.sampled_from([b"GET", b"HEAD"]))
def test_the_client_gets_one_readable_answer_or_an_honest_failure(
    data: bytes, cuts: list[int], method: bytes
):
    """Answers are relayed as the application meant them or visibly fail, wherever the bytes were cut."""
    oracles.application_bytes(data, cuts, method)


@pytest.mark.parametrize("name", ASKED)
def test_every_own_request_case_passes_the_oracle(name: str):
    """The corpus is the fuzzer's seed."""
    oracles.client_bytes(ASKED[name].sent[:4000], [3, 30, 300])


@pytest.mark.parametrize("name", ANSWERED)
def test_every_own_response_case_passes_the_oracle(name: str):
    """The corpus is the fuzzer's seed."""
    case = ANSWERED[name]
    oracles.application_bytes(case.sent[:4000], [3, 30, 300], case.method.encode())
