"""What administrators write: marked YAML documents, settings of config.yaml, keyservers, accounts, subordinate IDs."""
