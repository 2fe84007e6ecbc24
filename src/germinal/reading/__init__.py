"""What a network says about texts without writing any: vectors, classes, spans, masked words, logits and losses."""
