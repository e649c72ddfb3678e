"""Other software that trains the same net on the same rows, each in a process of its own."""
