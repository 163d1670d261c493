"""The judge: how well a file of generated showers agrees with a file of Geant4 showers."""
