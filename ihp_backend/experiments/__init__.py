"""What measures us: speed, clicks, learning, each part of the method."""
