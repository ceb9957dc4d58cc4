"""A judge over HTTP: one thread that owns the engine, and routes in the forms of many clients."""
