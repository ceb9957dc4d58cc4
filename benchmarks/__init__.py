"""What is measured by hand, and long: beside others (`peers`), and along an axis (`curves`)."""
