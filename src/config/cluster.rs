//! The table `[cluster]`: where the NATS servers are that several nodes share.

use std::path::PathBuf;

use url::Url;

use crate::config::kinds::{AnyPath, At, Choice, Items, List, Maybe, Text, Whole};
use crate::config::options::Flag;
use crate::config::options::Unset::{Is, Nothing};
use crate::config::options::options;
use crate::config::values::NamedValues;

options! {
    /// The settings of the cluster, `[cluster]`.
    pub struct ClusterSettings from ClusterOptions under None;

    /// URLs of the NATS servers: nats://HOST:PORT, or tls://HOST:PORT
    #[key("url": List<ServerUrls> = Nothing, Flag::None)]
    pub url: Vec<String>,

    /// File with the credentials for the NATS servers (.creds)
    #[key("credentials": Maybe<At<AnyPath>> = Nothing, Flag::None)]
    pub credentials: Option<PathBuf>,

    /// Name of this serve in the lists of the NATS servers
    #[key("name": Text = Is("wsgw"), Flag::None)]
    pub name: String,

    /// Copies that the NATS servers keep of each stream
    #[key("replicas": Whole<usize, 1, 5> = Is("1"), Flag::None)]
    pub replicas: usize,

    /// Whether the streams are made (create), or made by others before (existing)
    #[key("stream": Choice<StreamRule> = Is("create"), Flag::None)]
    pub stream: StreamRule,
}

/// Who makes the streams of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRule {
    /// The first node.
    Create,
    /// Somebody else.
    Existing,
}

impl NamedValues for StreamRule {
    const NAMES: &'static [(&'static str, StreamRule)] =
        &[("create", StreamRule::Create), ("existing", StreamRule::Existing)];
}

/// A URL without the user and the password that it may have, for people to read.
fn without_user(url: &str) -> String {
    let Some((user, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = user.split_once("//").map_or("", |(scheme, _)| scheme);
    format!("{scheme}//…@{host}")
}

/// URLs of NATS servers.
pub(crate) struct ServerUrls;

impl Items for ServerUrls {
    type Plain = Vec<String>;

    fn parse(entries: &[String]) -> Result<Vec<String>, String> {
        for entry in entries {
            let wrong = |why: &str| {
                format!(
                    "{:?} is not the URL of a NATS server: {why}; write \
                     nats://127.0.0.1:4222, or tls://HOST:PORT",
                    without_user(entry)
                )
            };
            let url = Url::parse(entry).map_err(|why| wrong(&why.to_string()))?;
            if !matches!(url.scheme(), "nats" | "tls") {
                return Err(wrong("its scheme is neither nats nor tls"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(format!(
                    "the URL of a NATS server at {} has a user or a password, which the log would show: use \
                     credentials = \"FILE.creds\"",
                    url.host_str().unwrap_or_default()
                ));
            }
            if url.host_str().is_none_or(str::is_empty) {
                return Err(wrong("it has no host"));
            }
        }
        Ok(entries.to_vec())
    }
}
