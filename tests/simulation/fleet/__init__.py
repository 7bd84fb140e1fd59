"""Edges, workers and their store, each as if it were a process of its own, in one run of Trio."""
