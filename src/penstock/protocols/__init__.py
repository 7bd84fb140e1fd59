"""Wire formats: total parsers and pure encoders, one module a dialect. No I/O."""
