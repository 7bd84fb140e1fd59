"""penstock: an LLM streaming server whose readers set the pace of their own decoding.

Layers, each importing only from those above it in this list:

- words: ``events``, ``requests``, ``errors``, ``settings``;
- pure: ``engine``, ``protocols``, ``schedule``, ``export`` (no trio, no clock);
- trio: ``engine_thread``, ``decoder``, ``generation``, ``pipeline``, ``admission``, ``metrics``;
- service: ``service``;
- edges: ``web``, ``cli``.
"""

import os

__version__ = "0.1.0"

# onnxruntime 1.31 keeps a database of its use in the user's home, for its maker, unless this
# is set before it is imported. What strangers ask of a server is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
