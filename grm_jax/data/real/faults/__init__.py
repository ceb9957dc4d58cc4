"""One kind of fault a file: a check that finds it in a text, and what puts it into one."""
