//! TLS of the clients' side: whom to trust, and a blocking connection for the control port's client.
//!
//! The two halves of a blocking connection (`wsgw send --lines`) share its state, but neither holds
//! it while it waits for the socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

/// One half of a blocking TLS connection.
pub struct ClientTls {
    socket: TcpStream,
    state: Arc<Mutex<ClientConnection>>,
    /// Decrypted, not read yet.
    plain: Vec<u8>,
}

impl ClientTls {
    /// Shakes hands; the socket's time-outs hold. With a `pinned` certificate the server must show
    /// exactly that one, else one that this system trusts for the name.
    ///
    /// # Errors
    /// TLS or the socket.
    pub fn connect(
        mut socket: TcpStream,
        host: &str,
        pinned: Option<Vec<u8>>,
    ) -> io::Result<ClientTls> {
        let trust = match pinned {
            Some(certificate) => Trust::Only(certificate),
            None => Trust::Roots(system_roots()),
        };
        let config = config(trust).map_err(io::Error::other)?.with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut state = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while state.is_handshaking() {
            state.complete_io(&mut socket)?;
        }
        Ok(ClientTls { socket, state: Arc::new(Mutex::new(state)), plain: Vec::new() })
    }

    /// The other half: one of the two may read, one may write.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<ClientTls> {
        let socket = self.socket.try_clone()?;
        Ok(ClientTls { socket, state: Arc::clone(&self.state), plain: Vec::new() })
    }

    /// The socket, for its time-outs.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn state(&self) -> MutexGuard<'_, ClientConnection> {
        self.state.lock()
    }

    /// Decrypts what came; false at the end of the connection.
    fn decrypt(&mut self, mut cipher: &[u8]) -> io::Result<bool> {
        let state = Arc::clone(&self.state);
        let mut state = state.lock();
        let ended = cipher.is_empty();
        loop {
            state.read_tls(&mut cipher)?;
            let came = state.process_new_packets().map_err(io::Error::other)?;
            let before = self.plain.len();
            self.plain.resize(before + came.plaintext_bytes_to_read(), 0);
            state.reader().read_exact(&mut self.plain[before..])?;
            if cipher.is_empty() {
                return Ok(!ended && !came.peer_has_closed());
            }
        }
    }
}

impl Read for ClientTls {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut open = true;
        while self.plain.is_empty() && open {
            let mut cipher = [0; 16 << 10];
            let n = self.socket.read(&mut cipher)?;
            open = self.decrypt(&cipher[..n])?;
        }
        let n = self.plain.len().min(out.len());
        out[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        Ok(n)
    }
}

impl Write for ClientTls {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut cipher = Vec::new();
        let n = {
            let mut state = self.state();
            let n = state.writer().write(plain)?;
            while state.wants_write() {
                state.write_tls(&mut cipher)?;
            }
            n
        };
        self.socket.write_all(&cipher)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which servers a client trusts.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Those with a certificate of one of these authorities, for the server's name.
    Roots(RootCertStore),
    /// The one with exactly this certificate (DER), whatever name it is for.
    Only(Vec<u8>),
    /// Every server.
    Anybody,
}

/// A client's configuration, but for its own certificate.
///
/// # Errors
/// The provider of the cryptography does not have what TLS needs.
pub(crate) fn config(
    trust: Trust,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let only = match trust {
        Trust::Roots(roots) => return Ok(builder.with_root_certificates(roots)),
        Trust::Only(certificate) => Some(certificate),
        Trust::Anybody => None,
    };
    let verifier = Arc::new(Nameless { only, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// What this system trusts; where it has no such list, Mozilla's.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { mozilla_roots(roots) } else { roots }
}

/// These roots and Mozilla's.
pub(crate) fn mozilla_roots(mut roots: RootCertStore) -> RootCertStore {
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}

/// Trusts one certificate or any, whatever name it is for. The one is that in the file that names
/// the control port's URL, which is as secret and as whole as the token beside it.
#[derive(Debug)]
struct Nameless {
    only: Option<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Nameless {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.only.as_ref().is_none_or(|only| shown.as_ref() == only) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
