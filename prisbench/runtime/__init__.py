"""How the machine is used: files, devices, locks, and whether a run is the same run.  Import the modules you need."""
