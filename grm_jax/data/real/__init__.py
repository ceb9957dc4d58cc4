"""Items of real text whose label is sure, and demonstrations that say what can be read off it."""
