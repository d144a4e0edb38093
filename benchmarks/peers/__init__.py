"""What people use instead, written out faithfully: the other side of each benchmark."""
