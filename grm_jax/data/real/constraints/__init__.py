"""Wishes that a rule can check, as IFEval's: each file has some that are alike.

A proposal takes a good text and another, and makes of them a constraint, a text that keeps it and
one that breaks it; or None where the texts do not serve.
"""
