"""A server process, and the clients that people use, over loopback sockets."""
