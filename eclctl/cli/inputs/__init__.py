"""What several commands are given: policies, keyrings, keyservers, certificates, registries, images."""
