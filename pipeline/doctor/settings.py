"""The files that a run is set up with: can they be read, are they what they must be, and where do they put DVC's own files.

Without the packages that read them nothing is found, which another check says.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.doctor.findings import Check, Finding, judge

DVC_FOLDER = Path(".dvc")
GET_AGAIN = "`git checkout {name}` gets it again"


def list_settings() -> dict[str, Path]:
    """Return DVC's settings files by level, the machine's first; some may not be there. ImportError without DVC."""
    from dvc.dirs import global_config_dir, system_config_dir

    folders = {"system": Path(system_config_dir()), "global": Path(global_config_dir())}
    return {name: folder / "config" for name, folder in folders.items()} | {"repo": DVC_FOLDER / "config", "local": DVC_FOLDER / "config.local"}


def find_bad_settings() -> str | None:
    """Say which of DVC's settings files cannot be read, and why; None if all can, or there is no DVC."""
    try:
        from configobj import ConfigObj, ConfigObjError
        from dvc.config import Config, ConfigError
    except ImportError:
        return None
    for level, path in list_settings().items():
        cure = GET_AGAIN.format(name=path) if level == "repo" else "mend or remove it"
        try:
            if path.is_file():
                ConfigObj(str(path), encoding="utf-8")
        except (ConfigObjError, UnicodeDecodeError, OSError) as error:
            return f"{path} cannot be read ({' '.join(str(error).split()).rstrip('.')}); {cure}"
    try:
        settings = Config(str(DVC_FOLDER.resolve()))
    except (ConfigError, OSError) as error:
        return (
            f"{' '.join(str(error).split()).rstrip('.')}; look into {' and '.join(str(path) for path in list_settings().values() if path.is_file())}"
        )
    if not settings.get("hydra", {}).get("enabled"):
        return (
            f"{DVC_FOLDER / 'config'} lacks `[hydra] enabled = true`, without which experiments ignore conf/; {GET_AGAIN.format(name='.dvc/config')}"
        )
    return None


def list_dvc_folders() -> list[Path]:
    """Return the folders outside of the project, or inside, where DVC keeps its cache and what it remembers of files; none if that is unknown."""
    try:
        from dvc.config import Config
        from dvc.dirs import site_cache_dir

        settings = Config(str(DVC_FOLDER.resolve()))
    except Exception:  # no package, no project, bad settings: `find_bad_settings` says so
        return []
    cache = settings.get("cache", {}).get("dir")
    return [DVC_FOLDER.resolve() / (cache or "cache"), Path(site_cache_dir(settings.get("core", {}).get("site_cache_dir"))) / "repo"]


def check_settings() -> Finding:
    """DVC's settings, of which the user and the machine may have some as well."""
    problem = find_bad_settings()
    return judge(problem and f"settings: {problem}", "settings: DVC's can be read")


def check_yaml() -> Finding:
    """The project's YAML files."""
    problem = find_bad_yaml()
    if problem:
        return Finding("wrong", f"YAML: {problem}")
    if fault := find_broken_lock():
        return Finding("note", f"YAML: dvc.lock is broken ({fault}); the next run sets it aside and rebuilds it")
    return Finding("ok", "YAML: the project's files can be read")


def find_bad_yaml() -> str | None:
    """Say which of the project's YAML files is broken, and where; None if none is."""
    try:
        from dvc.exceptions import DvcException
        from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
        from dvc.utils.strictyaml import load

        from pipeline.yaml_files import read_yaml_mapping
    except ImportError:
        return None
    for path in [*sorted(Path("conf").rglob("*.yaml")), Path("dvc.yaml")]:
        try:
            read_yaml_mapping(path)
        except (ValueError, OSError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"{path} cannot be read ({error.strerror})"
            return f"{reason.rstrip('.')}; {GET_AGAIN.format(name=path)}"
    try:
        if not load("dvc.yaml", COMPILED_MULTI_STAGE_SCHEMA)[0].get("stages"):
            return f"dvc.yaml has no stages; {GET_AGAIN.format(name='dvc.yaml')}"
    except DvcException as error:
        return f"dvc.yaml is no pipeline ({' '.join(str(error.__cause__ or error).split()).rstrip('.')}); {GET_AGAIN.format(name='dvc.yaml')}"
    return None


def find_broken_lock() -> str | None:
    """Say what is wrong with dvc.lock; None if it is whole or cannot be looked into, which the check of the disk says."""
    try:
        from pipeline.integrity.lock import find_fault

        return find_fault(Path.cwd())
    except (ImportError, OSError):
        return None


CHECKS: tuple[Check, ...] = (check_settings, check_yaml)
