"""The paper's experiments: each has a few judges on a benchmark, a table and a figure."""
