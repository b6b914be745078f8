"""What the command line does, without printing: each function takes plain values and returns plain values."""
