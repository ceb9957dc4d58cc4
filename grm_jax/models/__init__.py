"""Numbers: Gemma-2, its scalar head, weights in and out."""
