"""The model side: sessions, KV cache, batched steps, sampling and text. No trio, clock or wire."""
