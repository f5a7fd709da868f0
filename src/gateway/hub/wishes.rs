//! What a URL asks for beside the connection: channels, and messages of the history. Pure.

use percent_encoding::percent_decode_str;

use crate::config::settings::{ChannelSource, GatewaySettings};
use crate::listener::protocol::channel::Channel;
use crate::text::excerpt::excerpt;
use crate::text::glob::glob;
use crate::text::position::{Position, Since};
use crate::ws::reason::Reason;
use crate::ws::response::{Refusal, Response};

/// Bytes of a name that a refusal shows.
const SHOWN: usize = 64;

/// What a URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Channels, sorted.
    pub channels: Box<[Channel]>,
    /// Messages of the history.
    pub since: Option<Since>,
}

/// Reads the path and the query of a request.
pub(super) fn of(path: &str, query: &str, settings: &GatewaySettings) -> Result<Wishes, Refusal> {
    Ok(Wishes { channels: channels(path, query, settings)?, since: since(query, settings)? })
}

/// The values of a parameter, percent-decoded; `+` stays `+`. An error where one is not UTF-8.
pub(super) fn values(query: &str, name: &str) -> Result<Vec<String>, Refusal> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let given = pairs.filter(|(key, _)| decoded(key).ok().as_deref() == Some(name));
    given.map(|(_, value)| decoded(value)).collect()
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| wrong("The URL holds invalid UTF-8.\n"))
}

fn wrong(text: impl Into<String>) -> Refusal {
    Refusal { response: Response::text(400, text.into()), reason: Reason::BadRequest }
}

fn channels(
    path: &str,
    query: &str,
    settings: &GatewaySettings,
) -> Result<Box<[Channel]>, Refusal> {
    let names: Vec<String> = match settings.channels {
        ChannelSource::Off => return Ok(Box::default()),
        ChannelSource::Path => match path.strip_prefix('/').unwrap_or(path) {
            "" => Vec::new(),
            name => vec![decoded(name)?],
        },
        ChannelSource::Query => values(query, "channel")?,
    };
    let mut channels = Vec::with_capacity(names.len());
    for name in names {
        let Some(channel) = Channel::parse(&name) else {
            let name = excerpt(&name, SHOWN);
            return Err(wrong(format!(
                "{name:?} is not the name of a channel: 1 to 200 of the characters A-Z a-z 0-9 . _ : \
                 / @ + -\n"
            )));
        };
        let admitted = settings
            .allow_channels
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| glob(pattern, &name)));
        if !admitted {
            let text = format!(
                "The channel {:?} may not be joined by the URL. The gateway's setting allow-channels \
                 says which may.\n",
                excerpt(&name, SHOWN)
            );
            return Err(Refusal { response: Response::text(403, text), reason: Reason::Channel });
        }
        channels.push(channel);
    }
    channels.sort_unstable();
    channels.dedup();
    if channels.len() > settings.max_channels {
        let text = format!(
            "Too many channels: the gateway's setting max-channels allows {} for each connection.\n",
            settings.max_channels
        );
        return Err(Refusal { response: Response::text(403, text), reason: Reason::MaxChannels });
    }
    Ok(channels.into())
}

fn since(query: &str, settings: &GatewaySettings) -> Result<Option<Since>, Refusal> {
    // Most requests ask for nothing.
    if !query.contains("since") && !query.contains('%') {
        return Ok(None);
    }
    let given = values(query, "since")?;
    let Some(text) = given.first() else { return Ok(None) };
    if settings.history.is_none() {
        // It means nothing here, but a position is a promise that cannot be kept.
        return Ok(Position::parse(text).map(Since::After));
    }
    if given.len() > 1 {
        return Err(wrong("The URL has more than one since.\n"));
    }
    Since::parse(text).map(Some).map_err(|why| wrong(format!("{}.\n", excerpt(&why, 200))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(source: ChannelSource, path: &str, query: &str) -> Result<Vec<String>, u16> {
        let mut settings = GatewaySettings::new("g");
        settings.channels = source;
        settings.max_channels = 3;
        settings.allow_channels = Some(vec!["r*".to_owned(), "a+b".to_owned()]);
        match of(path, query, &settings) {
            Ok(wishes) => Ok(wishes.channels.iter().map(ToString::to_string).collect()),
            Err(refusal) => Err(refusal.response.status()),
        }
    }

    #[test]
    fn channels_of_a_url() {
        use ChannelSource::{Off, Path, Query};
        for (source, path, query, channels) in [
            (Off, "/room", "channel=r", Ok(&[][..])),
            (Path, "/", "", Ok(&[])),
            (Path, "/room", "channel=r", Ok(&["room"])),
            (Path, "/r%2Fa", "", Ok(&["r/a"])),
            (Path, "/r/a", "", Ok(&["r/a"])),
            (Path, "/r%20a", "", Err(400)),
            (Path, "/r%ff", "", Err(400)),
            (Path, "/lobby", "", Err(403)),
            (Query, "/lobby", "", Ok(&[])),
            (Query, "/", "x=1&channel=r2&channel=r1&channel=r2", Ok(&["r1", "r2"])),
            (Query, "/", "channel=a+b", Ok(&["a+b"])),
            (Query, "/", "channel=a%2Bb", Ok(&["a+b"])),
            (Query, "/", "channel=", Err(400)),
            (Query, "/", "channel", Err(400)),
            (Query, "/", "channel=r1&channel=lobby", Err(403)),
            (Query, "/", "channel=r1&channel=r2&channel=r3&channel=r4", Err(403)),
        ] {
            let channels = channels.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
            assert_eq!(asked(source, path, query), channels, "{path}?{query}");
        }
    }
}
