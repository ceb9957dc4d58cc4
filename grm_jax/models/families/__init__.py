"""The families of backbones: each file is one, from its config.json to a `ModelSpec`."""
