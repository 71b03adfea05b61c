"""What a command is to look at: policies and keyrings by their names, or the configuration that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eclctl.config.settings import LoadedSettings

__all__ = ["SYSTEM_CONFIG", "add_policy_options", "policy_options_error", "settings_from_options"]

SYSTEM_CONFIG = "/etc/eclctl/config.yaml"
"""What is looked at when nothing is named."""


def add_policy_options(parser: argparse.ArgumentParser, config: str, keyring: str = "certificates; repeatable") -> None:
    """Add `paths`, `--config` and `--keyring`; `config` and `keyring` say what the options are for."""
    parser.add_argument("paths", nargs="*", metavar="FILE_OR_DIR", help="policies, in the order of their rules")
    parser.add_argument("--config", metavar="FILE", help=f"{config} ({SYSTEM_CONFIG})")
    parser.add_argument("--keyring", metavar="FILE_OR_DIR", action="append", default=[], help=keyring)


def policy_options_error(options: argparse.Namespace) -> str | None:
    """Return what is wrong with how these options go together, or None."""
    if options.config is not None and (options.paths or options.keyring):
        return "--config names policies and keyrings; give it alone"
    if options.keyring and not options.paths:
        return "--keyring needs policy files or directories after it"
    return None


def settings_from_options(options: argparse.Namespace) -> LoadedSettings:
    """Return settings with just what the options name, or those of a configuration, the system's when none is named."""
    from eclctl.config.settings import LoadedSettings, Settings, load_settings  # noqa: PLC0415 - others need only the options

    if options.paths:
        return LoadedSettings(Settings("", "", "", tuple(options.paths), tuple(options.keyring)), ())
    from eclctl.config.accounts import NAMES  # noqa: PLC0415 - as above

    return load_settings(options.config or SYSTEM_CONFIG, resolve_user=NAMES.user)
