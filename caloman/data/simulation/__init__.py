"""A parametric shower sampler, a stand-in for Geant4."""
