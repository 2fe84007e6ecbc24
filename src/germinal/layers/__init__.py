"""The parts a Transformer is built of: norms, positions, attention, feed-forward, blocks, stacks. torch only.

Shape legend of this package: B batch, T query tokens, S key tokens, N tokens of a flat batch, D hidden, H heads,
K key-value heads, E head_dim, V vocabulary. `...` stands for [B, T] or [N]: every layer but attention treats tokens
independently, so that the same modules run a padded batch and a flat one.
"""
