"""Our sampler and updates beside those of others, on the same work in the same run.

`python -m benchmarks.peers sampler` and `train`; see docs/benchmarks.md. Nothing here imports more
than numpy, since every environment reads it.
"""
