"""Our encoders against clipscope, SAELens and sparsify themselves, in an environment of their own."""
