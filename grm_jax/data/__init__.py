"""Rows into batches: sources, mixes, pipelines, the synthetic world."""
