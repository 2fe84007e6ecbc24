"""What a network says of texts that it reads, without writing any: vectors, classes, spans, words for a mask."""
