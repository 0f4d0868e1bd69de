"""Messages: what HTTP means, byte for byte. Pure, but for the parser's door."""
