"""Whether traces are wanted. Without that, nothing of OpenTelemetry is imported."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.accounting import Trace, untraced

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingError(ValueError):
    """Traces are wanted and cannot be had; the message says what to do."""


def load_trace(environ: Mapping[str, str]) -> Trace:
    """What is told of each generation that ended. Raises `TracingError`.

    Traces are on where `OTEL_TRACES_EXPORTER` or an OTLP endpoint is set, and nothing says no.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    named = exporter or any(environ.get(name) for name in ENDPOINTS)
    if not named or exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return untraced
    if exporter not in ("", "otlp", "console"):
        raise TracingError("OTEL_TRACES_EXPORTER must be otlp, console or none")
    try:
        from penstock.otel import export_spans
    except ImportError:
        raise TracingError(
            "traces are asked for (OTEL_…), but OpenTelemetry is not installed; "
            "pip install 'penstock[otel]', or set OTEL_TRACES_EXPORTER=none"
        ) from None
    return export_spans(console=exporter == "console")
