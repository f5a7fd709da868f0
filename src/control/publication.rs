//! The file in which clients find this control port ([`crate::api::file`]), kept while it is open.
//!
//! Others may remove or replace it meanwhile. What was removed or damaged is written anew within
//! [`LOOK_PAUSE`]; what belongs to somebody else is left alone, and said in the log once. The state
//! is behind a lock, for a reload writes the file, too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::api::file::{ControlFile, Published, Seen};
use crate::config::settings::ControlSettings;
use crate::error::Failure;
use crate::paths;

/// How often the file and the socket are looked at.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// The file of one control port. Clones are the same one.
#[derive(Clone)]
pub(super) struct Publication(Arc<Mutex<State>>);

struct State {
    /// Where it belongs; nowhere without a home directory.
    directory: Option<PathBuf>,
    name: String,
    content: ControlFile,
    /// The file that was written, until it is withdrawn.
    published: Option<Published>,
    withdrawn: bool,
    /// What is wrong now and was said.
    said: Option<String>,
}

impl State {
    fn write(&mut self) -> Result<(), String> {
        let directory = self.directory.as_deref();
        let directory = directory.ok_or("there is no home directory and no $STATE_DIRECTORY")?;
        let written = Published::write(directory, &self.name, self.content.clone());
        let published = written.map_err(|e| {
            format!("{} cannot be written: {e}", directory.join(&self.name).display())
        })?;
        if let Some(old) = self.published.replace(published) {
            // Its name is that of the new one.
            old.forget();
        }
        Ok(())
    }

    /// Looks at the file, and mends what is wrong with it.
    fn look(&mut self) {
        if self.withdrawn || self.directory.is_none() {
            return;
        }
        let (path, seen) = match &mut self.published {
            Some(published) => (published.path().display().to_string(), published.look()),
            None => (self.name.clone(), Seen::Missing),
        };
        let what = match seen {
            Seen::Ours => {
                self.said = None;
                return;
            }
            Seen::Others(other) => {
                let url = &self.content.url;
                let why = format!(
                    "{path} is now that of process {} ({}); clients of this one need \
                     `--control {url}` and its token",
                    other.pid, other.url
                );
                return self.say(why);
            }
            Seen::Missing => "was gone".to_owned(),
            Seen::Damaged(why) => format!("could not be used any more ({why})"),
        };
        match self.write() {
            Ok(()) => {
                self.said = None;
                tracing::warn!("control port: {path} {what}; it was written anew");
            }
            Err(why) => self.say(why),
        }
    }

    fn say(&mut self, why: String) {
        if self.said.as_ref() != Some(&why) {
            tracing::warn!("control port: {why}");
            self.said = Some(why);
        }
    }
}

impl Publication {
    /// Writes the file. Where clients can do without it, a failure is a warning.
    pub(super) fn new(
        settings: &ControlSettings,
        name: String,
        content: ControlFile,
    ) -> Result<Publication, Failure> {
        let needed = content.token.is_some() && settings.token_file.is_none();
        let directory = settings.directory.clone().or_else(paths::state_dir);
        let url = content.url.clone();
        let mut state =
            State { directory, name, content, published: None, withdrawn: false, said: None };
        match state.write() {
            Ok(()) => {}
            Err(why) if needed => {
                return Err(Failure::other(format!(
                    "control port: {why}; give [control] a `directory`, or switch it off \
                     (`--control off`)"
                )));
            }
            Err(why) => {
                tracing::warn!("control port: {why}; clients need `--control {url}`");
                state.said = Some(why);
            }
        }
        Ok(Publication(Arc::new(Mutex::new(state))))
    }

    /// Writes it with another certificate (DER in base64).
    pub(super) fn renew(&self, certificate: String) -> Result<(), String> {
        let mut state = self.0.lock();
        if state.withdrawn || state.published.is_none() {
            return Ok(());
        }
        let old = state.content.certificate.replace(certificate);
        let written = state.write();
        if written.is_err() {
            state.content.certificate = old;
        }
        written
    }

    /// Keeps the file until `stop`, then removes it.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let state = Arc::clone(&self.0);
            // A file system that hangs must not hang the control port.
            let look = tokio::task::spawn_blocking(move || state.lock().look());
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look => {}
            }
        }
        self.withdraw();
    }

    fn withdraw(&self) {
        let mut state = self.0.lock();
        state.withdrawn = true;
        drop(state.published.take());
    }
}
