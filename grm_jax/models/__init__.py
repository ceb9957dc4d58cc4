"""Numbers: backbones of several families, a scalar head, weights in and out."""
