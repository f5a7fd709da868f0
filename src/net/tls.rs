//! Certificates and keys from PEM files, and TLS of the server's side: an acceptor whose certificate
//! can be exchanged while it runs.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;

use crate::files;

/// Bytes of a file of certificates, or of a key, at most: a chain has some ten thousand.
const MAX_PEM: usize = 1 << 20;

/// A certificate chain and its key (PEM), and the chain's first certificate.
///
/// # Errors
/// What is wrong with which file.
pub fn server_config(chain: &Path, key: &Path) -> Result<(ServerConfig, Vec<u8>), String> {
    let certificates = certificates("tls-cert", chain)?;
    let first = certificates.first().map(|first| first.to_vec()).unwrap_or_default();
    let private = private_key("tls-key", key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|e| {
            let why = match e {
                rustls::Error::InconsistentKeys(_) => {
                    "the key is not that of the certificate".to_owned()
                }
                e => e.to_string(),
            };
            format!("tls-cert {} and tls-key {}: {why}", chain.display(), key.display())
        })?;
    // A memory of 256 sessions does not help thousands of clients that stay for hours, and tickets
    // after the handshake confuse clients that read and write on two threads without a lock.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok((config, first))
}

/// The certificates of a file (PEM), at least one; `name` is the flag or key that names the file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn certificates(
    name: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(&read(name, path)?)
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(name, path, e))?;
    if all.is_empty() { Err(wrong(name, path, pem::Error::NoItemsFound)) } else { Ok(all) }
}

/// The private key of a file (PEM); `name` is the flag or key that names the file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn private_key(name: &str, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(name, path)?).map_err(|e| wrong(name, path, e))
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, MAX_PEM).map_err(|e| format!("{name} {}: {e}", path.display()))
}

fn wrong(name: &str, path: &Path, error: pem::Error) -> String {
    let why = match error {
        pem::Error::NoItemsFound if name.ends_with("key") => {
            "there is no private key (PEM, without a passphrase) in it".to_owned()
        }
        pem::Error::NoItemsFound => "there is no certificate (PEM) in it".to_owned(),
        error => error.to_string(),
    };
    format!("{name} {}: {why}", path.display())
}

/// The server's side: the acceptor, and the certificate that clients on this machine may trust by
/// itself.
pub struct ServerTls {
    /// For each connection.
    pub acceptor: Renewable,
    /// The first of the chain.
    pub certificate: Vec<u8>,
}

impl ServerTls {
    /// Reads chain and key (PEM).
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(chain: &Path, key: &Path) -> Result<ServerTls, String> {
        let (config, certificate) = server_config(chain, key)?;
        Ok(ServerTls { acceptor: Renewable::new(config), certificate })
    }
}

/// An acceptor whose certificate can be exchanged; connections that are open stay.
#[derive(Clone)]
pub struct Renewable(Arc<RwLock<TlsAcceptor>>);

impl Renewable {
    fn new(config: ServerConfig) -> Renewable {
        Renewable(Arc::new(RwLock::new(TlsAcceptor::from(Arc::new(config)))))
    }

    /// For one connection.
    pub fn now(&self) -> TlsAcceptor {
        self.0.read().clone()
    }

    /// New connections are shown what `other` shows.
    pub fn renew(&self, other: &Renewable) {
        *self.0.write() = other.now();
    }
}
