//! Whether a control port could be opened, found out without binding it.

use crate::config::settings::{ControlListen, ControlSettings};
use crate::control::bind::{ensure_loopback, read_token, resolve, tls_of};
use crate::files;
use crate::net::host;
use crate::net::unix::Place;

/// Everything that would keep a control port with these settings from being opened.
pub(crate) fn what_is_wrong(settings: &ControlSettings) -> Vec<String> {
    let mut found = Vec::new();
    match &settings.listen {
        ControlListen::Off => return found,
        ControlListen::Unix(path) => {
            let place = Place::new(path, settings.mode, settings.group.as_deref());
            let usable = place.and_then(|place| place.ensure_usable());
            found.extend(usable.err().map(|why| format!("listen unix:{}: {why}", path.display())));
        }
        ControlListen::Tcp(name, port) => {
            let tls = settings.tls_cert.is_some() && settings.tls_key.is_some();
            if tls {
                found.extend(tls_of(settings).err());
            }
            let ascii = host::to_ascii(host::unbracketed(name)).unwrap_or_default();
            let addresses = resolve(&ascii, *port);
            let public = |addresses: Vec<_>| {
                if tls || settings.insecure { Ok(()) } else { ensure_loopback(&addresses) }
            };
            let reached = addresses.and_then(public).err();
            found.extend(reached.map(|why| format!("listen {}: {why}", host::join(name, *port))));
            let token = settings.token_file.as_deref().map(read_token);
            found.extend(token.and_then(Result::err).map(|failure| failure.message));
        }
    }
    if let Some(directory) = &settings.directory {
        let usable = files::ensure_can_be_directory(directory);
        found.extend(usable.err().map(|why| format!("directory {}: {why}", directory.display())));
    }
    found
}
