"""Signs images. Nothing here uses a network.

`native` and `cosign_sign` make signatures with what `pem`, `gnupg` and `cosign_keys` unlock; `edit` changes the file,
and `keyrings` keeps OpenPGP keys.
"""
