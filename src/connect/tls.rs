//! TLS as the flags want it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::connect::options::Options;
use crate::error::Failure;
use crate::net::tls::{certificates, private_key};
use crate::net::tls_client::{self, Trust, mozilla_roots, system_roots};
use crate::paths::expand_home;

/// TLS with a proxy: the roots of `--cacert` come beside the usual ones, and `--insecure` is for the
/// server alone.
///
/// # Errors
/// Exit code 2 for a file that cannot be used.
pub(super) fn proxy_config(options: &Options) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = mozilla_roots(system_roots());
    if let Some(path) = &options.cacert {
        roots.add_parsable_certificates(own_roots(path)?);
    }
    Ok(Arc::new(builder(Trust::Roots(roots))?.with_no_client_auth()))
}

fn home(path: &Path) -> Result<PathBuf, Failure> {
    expand_home(path).map_err(Failure::usage)
}

fn own_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    certificates("--cacert", &home(path)?).map_err(Failure::usage)
}

fn builder(trust: Trust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Failure> {
    tls_client::config(trust).map_err(|e| Failure::other(format!("TLS cannot be set up: {e}")))
}

/// TLS with the server: the system's roots and Mozilla's, or those of `--cacert`. The certificate
/// of `--cert` is shown if `shows_identity`.
///
/// # Errors
/// Exit code 2 for a file that cannot be used.
pub(super) fn config(
    options: &Options,
    shows_identity: bool,
) -> Result<Arc<ClientConfig>, Failure> {
    let trust = match &options.cacert {
        _ if options.insecure => Trust::Anybody,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(own_roots(path)?);
            Trust::Roots(roots)
        }
        None => Trust::Roots(mozilla_roots(system_roots())),
    };
    let builder = builder(trust)?;
    let config = match options.identity.as_ref().filter(|_| shows_identity) {
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
