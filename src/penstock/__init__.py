"""penstock: an LLM streaming server whose readers set the pace of their own decoding.

Layers, each importing only from those above it in this list:

- words: ``events``, ``requests``, ``errors``, ``settings``;
- pure: ``engine``, ``protocols``, ``schedule``, ``export`` (no trio, no clock);
- trio: ``engine_thread``, ``decoder``, ``generation``, ``pipeline``, ``admission``, ``metrics``;
- service: ``service``;
- edges: ``web``, ``cli``.
"""

__version__ = "0.1.0"
