"""What can be wrong with a dataset: rules, copies, leaks.  Import the modules you need."""
