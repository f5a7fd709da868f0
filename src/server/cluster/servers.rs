//! The NATS servers as they are written in the config, and why they cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::config::settings::ClusterSettings;

/// How long a server that cannot be used is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// The servers by their URLs, and why they could not be connected to last.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) urls: Arc<str>,
    pub(super) why: Arc<Mutex<Option<String>>>,
}

impl Servers {
    /// Those of the settings.
    pub(super) fn new(settings: &ClusterSettings) -> Servers {
        Servers { urls: settings.url.join(", ").into(), why: Arc::default() }
    }

    /// That none of them can be used, and why. The client says little, so the first one is looked at.
    pub(super) async fn unreachable(&self) -> String {
        let first = self.urls.split(", ").next().and_then(|url| Url::parse(url).ok());
        let looked = match &first {
            Some(url) => look(url).await,
            None => None,
        };
        let why = looked.or_else(|| self.why.lock().clone());
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        format!("no NATS server can be reached at {}{why}", self.urls)
    }
}

/// Why a server cannot be connected to, as far as that can be seen from outside.
async fn look(url: &Url) -> Option<String> {
    let address = (url.host_str()?.trim_matches(['[', ']']), url.port().unwrap_or(4222));
    let connected = timeout(LOOK, TcpStream::connect(address)).await;
    match (connected, url.scheme()) {
        (Err(_), _) => Some("it does not answer".to_owned()),
        (Ok(Err(why)), _) => Some(why.to_string()),
        (Ok(Ok(_)), "tls") => Some(
            "it answers, but TLS fails: is its certificate trusted, and for this name?".to_owned(),
        ),
        (Ok(Ok(_)), _) => None,
    }
}
