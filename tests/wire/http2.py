"""An HTTP/2 client driven by hand: it reads the streams it wants to, and no other."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable

import h2.events as e
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from .raw import Raw
from .servers import Server

WIDE = 1 << 30


class Http2Client(Raw):
    """One connection. `window` bounds what of a stream is not read; `shared`, of them all."""

    def __init__(
        self,
        server: Server,
        *,
        window: int = 65_535,
        shared: int = WIDE,
        small: bool = False,
        checked: bool = True,
    ) -> None:
        super().__init__(server, small=small)
        self.wire = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=checked,
                normalize_outbound_headers=checked,
            )
        )
        self.stopped: set[int] = set()
        """Streams that are not read: their windows stay as they are."""
        self.head: dict[int, dict[str, str]] = {}
        self.body: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: e.ConnectionTerminated | None = None
        self.events: list[e.Event] = []
        self.wire.initiate_connection()
        self.wire.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        if shared > 65_535:
            self.wire.increment_flow_control_window(shared - 65_535)
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.wire.data_to_send())

    def ask(
        self, method: str, path: str, body: object = None, *, end: bool = True, **headers: str
    ) -> int:
        """Send a request and give its stream's number."""
        number: int = self.wire.get_next_available_stream_id()
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "x"),
        ]
        told = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.wire.send_headers(number, pseudo + told, end_stream=end and not data)
        if data:
            self.wire.send_data(number, data, end_stream=end)
        self.flush()
        return number

    def reset_stream(self, number: int) -> None:
        self.wire.reset_stream(number, ErrorCodes.CANCEL)
        self.flush()

    def pump(self, condition: Callable[[], bool]) -> None:
        """Take what comes until `condition` holds."""
        while not condition():
            data = self.socket.recv(65536)
            assert data, f"closed, {self.goaway}"
            self.take(data)

    def pump_to_end(self) -> None:
        """Take what comes until the server closes."""
        try:
            while data := self.socket.recv(65536):
                self.take(data)
        except ConnectionResetError:
            pass

    def take(self, data: bytes) -> None:
        for event in self.wire.receive_data(data):
            self.events.append(event)
            self._note(event)
        if self.goaway is None:
            self.flush()

    def _note(self, event: e.Event) -> None:
        match event:
            case e.ResponseReceived():
                self.head[event.stream_id] = {str(k): str(v) for k, v in event.headers}
            case e.DataReceived():
                self.body[event.stream_id] += event.data
                if event.stream_id not in self.stopped:
                    self.wire.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
            case e.StreamEnded():
                self.ended.add(event.stream_id)
            case e.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case e.ConnectionTerminated():
                self.goaway = event

    def read(self, number: int) -> tuple[int, bytes]:
        """Status and body of a whole response."""
        self.pump(lambda: number in self.ended or number in self.resets)
        assert number in self.ended, self.resets
        return int(self.head[number][":status"]), bytes(self.body[number])

    def read_until(self, mark: bytes, number: int = 1) -> bytes:
        self.pump(lambda: mark in self.body[number])
        return bytes(self.body[number])

    def fetch(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, bytes]:
        return self.read(self.ask(method, path, body, end=True, **headers))
