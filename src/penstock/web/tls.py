"""The server's certificate, and what it offers to speak."""

from __future__ import annotations

import ssl

from penstock.settings import Settings


class TlsError(Exception):
    """The certificate cannot be used; the message says why and what to do."""


def load_tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context that the settings ask for, None for plain TCP. Raises `TlsError`."""
    if not settings.certfile and not settings.keyfile:
        return None
    if not settings.certfile:
        raise TlsError("--keyfile needs --certfile")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        # An encrypted key would make OpenSSL ask on the terminal.
        context.load_cert_chain(settings.certfile, settings.keyfile or None, password=_refuse)
    except ValueError:
        raise TlsError(f"the key for {settings.certfile} is encrypted; decrypt it") from None
    except ssl.SSLError as error:
        raise TlsError(f"cannot use {settings.certfile}: {error.reason or error}") from None
    except OSError as error:
        names = f"{settings.certfile} {settings.keyfile}".strip()
        raise TlsError(f"cannot read {names}: {error.strerror}") from None
    return context


def _refuse() -> str:
    raise ValueError
