"""Imports an Execution Control List (ecl.toml) of Singularity as a policy, and says where the two differ."""
