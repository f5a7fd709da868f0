//! TLS as the flags want it.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::connect::options::Options;
use crate::error::Failure;
use crate::net::tls::{certificates, private_key};
use crate::net::tls_client::{self, Trust, mozilla_roots, system_roots};
use crate::paths::expand_home;

/// The client's side of TLS: the system's roots and Mozilla's, or those of `--cacert`.
///
/// # Errors
/// Exit code 2 for a file that cannot be used.
pub(super) fn config(options: &Options) -> Result<Arc<ClientConfig>, Failure> {
    let home = |path: &Path| expand_home(path).map_err(Failure::usage);
    let trust = match &options.cacert {
        _ if options.insecure => Trust::Anybody,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let own = certificates("--cacert", &home(path)?).map_err(Failure::usage)?;
            roots.add_parsable_certificates(own);
            Trust::Roots(roots)
        }
        None => Trust::Roots(mozilla_roots(system_roots())),
    };
    let builder = tls_client::config(trust)
        .map_err(|e| Failure::other(format!("TLS cannot be set up: {e}")))?;
    let config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates("--cert", &home(cert)?).map_err(Failure::usage)?;
            let secret = private_key("--key", &home(key)?).map_err(Failure::usage)?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|e| Failure::usage(format!("--cert and --key: {e}")))?
        }
    };
    Ok(Arc::new(config))
}
