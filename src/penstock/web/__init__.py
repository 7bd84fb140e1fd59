"""The edge: ASGI, HTTP/1.1 and WebSocket on Trio. Frameworks live here and in `cli` only."""
