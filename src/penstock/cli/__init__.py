"""The command line. It prints and exits; everything else is done by the rooms below."""
