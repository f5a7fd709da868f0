//! Where files live: the state directory, the config directory, and the places where a client
//! looks for a running `serve`.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use directories::BaseDirs;

/// `wsgw serve`'s state directory: `$STATE_DIRECTORY` (systemd), else `wsgw` in `$XDG_STATE_HOME`,
/// else `~/.local/state/wsgw`; on macOS `wsgw` in the data directory. The home comes from the user
/// database where `HOME` is unset, so that cron finds it. `None` where there is no home at all.
pub(crate) fn state_dir() -> Option<PathBuf> {
    // systemd gives a list with colons when the unit has several.
    let from_systemd = std::env::var_os("STATE_DIRECTORY")
        .and_then(|v| std::env::split_paths(&v).next())
        .filter(|p| !p.as_os_str().is_empty());
    from_systemd.or_else(user_state_dir)
}

/// The state directory of this user, whatever systemd says.
pub(crate) fn user_state_dir() -> Option<PathBuf> {
    let base = BaseDirs::new()?;
    Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("wsgw"))
}

/// Every directory in which a client looks for `control-*.json`, most specific first, each once.
pub(crate) fn control_dirs() -> Vec<PathBuf> {
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
pub(crate) fn config_files() -> Vec<PathBuf> {
    BaseDirs::new()
        .map(|b| b.config_dir().join("wsgw/wsgw.toml"))
        .into_iter()
        .chain([PathBuf::from("/etc/wsgw/wsgw.toml")])
        .collect()
}

/// A path as a shell would take it: `~` and `~/x` lead to the home directory.
///
/// Paths in a config file and behind `--flag=` reach the program unexpanded; without this they would
/// make a directory named `~`.
///
/// # Errors
/// There is no home directory, or the path names another user's (`~name`), which is not supported.
pub(crate) fn expand_home(path: &Path) -> Result<PathBuf, String> {
    let mut parts = path.components();
    let first = parts.next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    if first == "~" {
        let base = BaseDirs::new().ok_or("there is no home directory for ~")?;
        return Ok(base.home_dir().join(parts.as_path()));
    }
    if first.as_encoded_bytes().starts_with(b"~") {
        return Err(format!(
            "{:?}: the home directories of other users are not supported; write ./{} for a file of \
             that name",
            first.to_string_lossy(),
            first.to_string_lossy()
        ));
    }
    Ok(path.to_path_buf())
}

/// For flags that take a path: as [`expand_home`].
pub(crate) fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| expand_home(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_leads_home() {
        let home = BaseDirs::new().unwrap().home_dir().to_path_buf();
        let expand = |path: &str| expand_home(Path::new(path));
        assert_eq!(expand("~"), Ok(home.clone()));
        assert_eq!(expand("~/x/y"), Ok(home.join("x/y")));
        assert_eq!(expand("/~/x"), Ok(PathBuf::from("/~/x")));
        assert_eq!(expand("a~"), Ok(PathBuf::from("a~")));
        assert_eq!(expand("./~x"), Ok(PathBuf::from("./~x")));
        assert!(expand("~root/x").is_err());
    }
}
