"""Attention that costs less: tiled (exact), sparse, linear; and the book's measurements of them."""
