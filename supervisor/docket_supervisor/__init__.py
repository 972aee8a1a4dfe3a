"""How worker processes are kept alive, and their work kept safe."""
