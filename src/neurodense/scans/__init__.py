"""From files to the network's input: the front door (`study`), the readers, and the one preprocessing. No torch."""
