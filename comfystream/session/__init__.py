"""One live run: source, engine, sinks."""
