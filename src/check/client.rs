//! The request of the clients that are played.

use crate::config::settings::{GatewaySettings, HeaderRule};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event::{Request, Subprotocol, request_members};
use crate::listener::protocol::json::push_str;

/// What a client asks with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    path: String,
    query: String,
    /// Lower-case names.
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of this gateway that asks for `url`, a path with its query, and sends these headers
    /// (`NAME: VALUE`) beside its own.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub(crate) fn new(
        settings: &GatewaySettings,
        url: Option<&str>,
        headers: &[String],
    ) -> Result<Client, String> {
        // A gateway that takes some paths only gets a client for the first of them.
        let of_gateway = || settings.path.first().map(|path| path.replace('*', "check"));
        let url = url.map(str::to_owned).or_else(of_gateway).unwrap_or_else(|| "/".to_owned());
        if !url.starts_with('/') {
            return Err(format!(
                "--url {url:?}: write a path with its query, such as /chat?room=1"
            ));
        }
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let mut all = vec![
            ("origin".to_owned(), "http://localhost".to_owned()),
            ("user-agent".to_owned(), "wsgw-check".to_owned()),
        ];
        for header in headers {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| format!("-H {header:?}: write NAME: VALUE"))?;
            let name = name.trim().to_ascii_lowercase();
            all.retain(|(other, _)| *other != name);
            all.push((name, value.trim().to_owned()));
        }
        let is_kept = |name: &str| {
            settings.headers.iter().any(|rule| match rule {
                HeaderRule::All => true,
                HeaderRule::Prefix(prefix) => name.starts_with(prefix.as_str()),
                HeaderRule::Name(rule) => rule == name,
            })
        };
        all.retain(|(name, _)| is_kept(name));
        Ok(Client { path: path.to_owned(), query: query.to_owned(), headers: all })
    }

    /// The members of its `onHandshake` or `onClientOpen`.
    pub(super) fn members(
        &self,
        settings: &GatewaySettings,
        conn: ConnId,
        subprotocol: Subprotocol<'_>,
    ) -> Vec<u8> {
        let request = Request {
            path: &self.path,
            query: &self.query,
            remote: &Client::remote(conn),
            headers: &self.headers,
            transport: settings.streams.then_some("websocket"),
        };
        request_members(request, subprotocol)
    }

    /// The address of a client.
    pub(super) fn remote(conn: ConnId) -> String {
        format!("127.0.0.1:{}", 50_000 + conn.0 % 10_000)
    }

    /// The length of its path as JSON.
    pub(super) fn path_len(&self) -> usize {
        let mut json = Vec::new();
        push_str(&mut json, &self.path);
        json.len()
    }
}
