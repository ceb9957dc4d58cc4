"""The routes: each file speaks one client's language."""
