"""How the two networks of `river-tiny` came to be, and how good they are."""
