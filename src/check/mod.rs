//! `wsgw check` and `wsgw serve --check-config`.
//!
//! `wsgw check` starts a listener as `serve` would and plays a gateway with a few clients to it. What
//! becomes of the listener's lines is decided by the real exchange ([`crate::listener::exchange`]), so
//! that what is said of them is what a gateway would do. The parts: `driver` has one process with its
//! pipes and its exchange, and `clients` has the connections that are played, `client` their request; `ledger` notes what was sent and
//! what came of it; `player` knows how the play stands, `play` has the steps, `ending` those in which the listener is to end; `says`
//! puts that into words; `findings` says what is wrong, `mends` how it is mended, and `command` knows which program it is.
//!
//! All of it runs on one thread.

pub(crate) mod client;
mod clients;
mod command;
pub(crate) mod config;
mod driver;
mod ending;
mod findings;
mod ledger;
mod mends;
mod play;
mod player;
mod processes;
pub(crate) mod report;
mod says;
mod steps;

use std::sync::Arc;

use crate::check::client::Client;
use crate::check::player::Player;
use crate::check::report::Report;
use crate::config::settings::GatewaySettings;
use crate::listener::process::orphans;

/// Plays a gateway with clients like this one to the listener of these settings. `progress` is told the
/// name of each step. `control_url` is what the listener is told of the control port, which is not there. To be called within a runtime of one thread that lives as long as the listener.
pub(crate) async fn check(
    settings: GatewaySettings,
    client: Client,
    control_url: Option<String>,
    progress: &dyn Fn(&str),
) -> Report {
    // What leaves the listener's group becomes ours, so that it is seen.
    processes::adopt_orphans();
    tokio::spawn(orphans::reap());
    let mut player = Player::new(Arc::new(settings), client, progress);
    player.control_url = control_url;
    player.play().await
}
