"""Server-sent events: bytes as they come from the socket -> payloads of whole events.

Frames, lines and characters may be cut anywhere between two calls; nothing is decoded before an event is whole.
Lines may end in LF or CRLF (not in a lone CR, which no known server sends); comments and other fields are passed over.
Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""


class SseDecoder:
    """Keeps what is cut off until the rest comes."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def is_between_events(self) -> bool:
        """Whether nothing of an unfinished event is held."""
        return not self._rest and not self._data

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes, in order."""
        if not self._rest and not self._data and data[:6] == b"data: " and data[-2:] == b"\n\n" and data.count(b"\n") == 2:
            return [data[6:-2]]  # one whole event, as almost always
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        payloads = []
        for line in lines:
            if line[-1:] == b"\r":
                line = line[:-1]
            if line[:5] == b"data:":
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        return payloads
