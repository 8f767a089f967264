"""Command line, HTTP and everything else that talks to the outside."""
