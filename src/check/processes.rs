//! What the system says of processes: which are left of a listener.

/// A process that a listener has left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// Its id.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
}

/// Makes orphans of our children our own children, where the system can do that.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // Without it, a process that leaves the listener's group is not seen.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
}

/// Processes of this group that run, without its leader. Nothing is found where there is no `/proc`.
pub(super) fn left_of(group: u32) -> Vec<Left> {
    all().filter(|one| one.group == group && one.pid != group).map(Row::left).collect()
}

/// Our children that run and belong to another group.
pub(super) fn children_beside(group: u32) -> Vec<Left> {
    let own = std::process::id();
    all().filter(|one| one.parent == own && one.group != group).map(Row::left).collect()
}

/// How many times more there is to run than there are processors: 1 on a machine that is not busy.
pub(super) fn crowding() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split_ascii_whitespace().next()?.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (load.unwrap_or(1.0) / processors as f64).max(1.0)
}

struct Row {
    pid: u32,
    name: String,
    parent: u32,
    group: u32,
}

impl Row {
    fn left(self) -> Left {
        Left { pid: self.pid, name: self.name }
    }

    /// Reads `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP …`. `None` for a zombie.
    fn parse(stat: &str) -> Option<Row> {
        let (start, rest) = stat.rsplit_once(')')?;
        let (pid, name) = start.split_once('(')?;
        let mut fields = rest.split_ascii_whitespace();
        let runs = !matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let pid = pid.trim().parse().ok()?;
        runs.then(|| Row { pid, name: name.to_owned(), parent, group })
    }
}

fn all() -> impl Iterator<Item = Row> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process =
        |name: &std::ffi::OsString| name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
    let names = entries.map(|entry| entry.file_name()).filter(is_process);
    names.filter_map(|name| {
        let stat = std::fs::read(std::path::Path::new("/proc").join(name).join("stat")).ok()?;
        Row::parse(&String::from_utf8_lossy(&stat))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name_holds() {
        let row = Row::parse("42 (a) (b c) S 7 40 40 0 -1").unwrap();
        assert_eq!((row.pid, &*row.name, row.parent, row.group), (42, "a) (b c", 7, 40));
        assert!(Row::parse("42 (x) Z 7 40 40").is_none() && Row::parse("").is_none());
    }
}
