"""Sources and sinks, decoding and encoding, colour and sound conversion."""
