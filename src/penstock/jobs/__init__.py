"""Generations with a name: their logs, who runs them, who reads them."""
