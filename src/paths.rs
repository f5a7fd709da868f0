//! Where files live: the state directory, the config directory, and the places where a client
//! looks for a running `serve`.

use std::path::PathBuf;

use directories::BaseDirs;

/// `wsgw serve`'s state directory: `$STATE_DIRECTORY` (systemd), else `wsgw` in `$XDG_STATE_HOME`,
/// else `~/.local/state/wsgw`; on macOS `wsgw` in the data directory. The home comes from the user
/// database where `HOME` is unset, so that cron finds it. `None` where there is no home at all.
pub fn state_dir() -> Option<PathBuf> {
    // systemd gives a list with colons when the unit has several.
    let from_systemd = std::env::var_os("STATE_DIRECTORY")
        .and_then(|v| std::env::split_paths(&v).next())
        .filter(|p| !p.as_os_str().is_empty());
    from_systemd.or_else(user_state_dir)
}

/// The state directory of this user, whatever systemd says.
pub fn user_state_dir() -> Option<PathBuf> {
    let base = BaseDirs::new()?;
    Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("wsgw"))
}

/// Every directory in which a client looks for `control-*.json`, most specific first, each once.
pub fn control_dirs() -> Vec<PathBuf> {
    let home_default = BaseDirs::new().map(|b| b.home_dir().join(".local/state/wsgw"));
    let mut dirs: Vec<PathBuf> = Vec::new();
    let candidates = [state_dir(), user_state_dir(), home_default]
        .into_iter()
        .flatten()
        .chain([PathBuf::from("/run/wsgw"), PathBuf::from("/var/lib/wsgw")]);
    for dir in candidates {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

/// The config files that `serve` looks for without `--config`, first one wins.
pub fn config_files() -> Vec<PathBuf> {
    BaseDirs::new()
        .map(|b| b.config_dir().join("wsgw/wsgw.toml"))
        .into_iter()
        .chain([PathBuf::from("/etc/wsgw/wsgw.toml")])
        .collect()
}
