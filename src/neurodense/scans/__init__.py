"""From a file to the network's input: reading (`read`) and the one preprocessing (`preprocess`). No torch."""
