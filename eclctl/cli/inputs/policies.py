"""What a command is to look at: policies and keyrings by their names, or the configuration that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eclctl.cli.terminal.parser import UsageError, add_repeatable
from eclctl.errors import EclctlError

if TYPE_CHECKING:
    import argparse

    from eclctl.config.settings import LoadedSettings, Settings

SYSTEM_CONFIG = "/etc/eclctl/config.yaml"
"""What is looked at when nothing is named."""


def add_policy_options(parser: argparse.ArgumentParser, keyring: str = "certificates of the signers") -> None:
    """Add `paths`, `--config` and `--keyring`, with what the last is for."""
    parser.add_argument("paths", nargs="*", metavar="FILE_OR_DIR", help="policies, in the order of their rules")
    parser.add_argument("--config", metavar="FILE", help=f"or the configuration that names them ({SYSTEM_CONFIG})")
    add_repeatable(parser, "--keyring", metavar="FILE_OR_DIR", text=keyring)


def settings_from_options(options: argparse.Namespace) -> LoadedSettings:
    """Return settings with just what the options name, or those of a configuration, the system's when none is named.

    Raises:
        UsageError: The options do not go together.
    """
    if options.config is not None and (options.paths or options.keyring):
        raise UsageError("--config names policies and keyrings; give it alone")
    if options.keyring and not options.paths:
        raise UsageError("--keyring needs policy files or directories after it")
    from eclctl.config.settings import LoadedSettings, Settings, load_settings  # noqa: PLC0415 - others need only the options

    if options.paths:
        return LoadedSettings(Settings("", "", "", tuple(options.paths), tuple(options.keyring)), ())
    from eclctl.config.accounts import NAMES  # noqa: PLC0415 - as above

    return load_settings(options.config or SYSTEM_CONFIG, resolve_user=NAMES.user)


def named_settings(config: str, error: type[EclctlError]) -> Settings:
    """Return the settings of a configuration; raise such an error when it does not load."""
    from eclctl.config.accounts import NAMES  # noqa: PLC0415 - as above
    from eclctl.config.settings import load_settings  # noqa: PLC0415 - as above

    loaded = load_settings(config, resolve_user=NAMES.user)
    if loaded.settings is None:
        raise error("; ".join(map(str, loaded.errors[:3])))
    return loaded.settings
