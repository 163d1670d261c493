"""What a shower is: the mesh of its calorimeter, files of showers and their slices, observables, and spectra."""
