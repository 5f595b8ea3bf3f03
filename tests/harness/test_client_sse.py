"""Server-sent events: whole payloads come out, wherever the bytes were cut."""

import pytest

from harness.client.sse import SseDecoder

STREAM = 'data: {"t": " 漢字 🙂"}\n\ndata: {"t": "é"}\n\ndata: [DONE]\n\n'.encode()
PAYLOADS = ['{"t": " 漢字 🙂"}'.encode(), '{"t": "é"}'.encode(), b"[DONE]"]


def fed(*parts: bytes) -> list[bytes]:
    decoder = SseDecoder()
    return [payload for part in parts for payload in decoder.feed(part)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_every_cut_into_two_gives_the_same_payloads(newline):
    stream = STREAM.replace(b"\n", newline)
    for cut in range(len(stream) + 1):
        assert fed(stream[:cut], stream[cut:]) == PAYLOADS, cut


def test_byte_by_byte():
    assert fed(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == PAYLOADS


def test_a_payload_comes_out_only_when_its_event_is_whole():
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [b"a"]


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="lines-of-one-event-are-joined"),
        pytest.param(b": ping\n\ndata: a\n\n", [b"a"], id="comment-is-passed-over"),
        pytest.param(b"event: x\nid: 1\ndata: a\n\n", [b"a"], id="other-fields-are-passed-over"),
        pytest.param(b"data:a\n\n", [b"a"], id="no-space-after-the-colon"),
        pytest.param(b"\n\n\ndata: a\n\n", [b"a"], id="empty-events"),
        pytest.param(b"data: a\n\ndata: b", [b"a"], id="end-cut-off"),
    ],
)
def test_forms_of_events(stream, payloads):
    assert fed(stream) == payloads
