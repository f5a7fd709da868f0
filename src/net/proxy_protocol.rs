//! The header of the PROXY protocol, versions 1 and 2, which a proxy sends in front of all else on a
//! connection: who its client is. As HAProxy's specification has it
//! (`doc/proxy-protocol.txt`, 2.1 and 2.2). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken, in bytes. Version 2 allows 65,551, but asks senders for 536 at
/// most; the longest ones have the names of certificates.
pub const MAX_HEADER: usize = 4096;

/// The longest header of version 1, in bytes.
const MAX_V1: usize = 107;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of a header of version 2 that say how long it is.
const V2_FIXED: usize = 16;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its bytes; the client's own follow.
    pub size: usize,
    /// The client's address. `None` if the proxy says nothing of a client (`UNKNOWN`, `LOCAL`, a unix
    /// socket): the connection is then the proxy's own.
    pub client: Option<SocketAddr>,
}

/// Reads the header at the front of `bytes`; `None` if it is not all there yet. At most
/// [`MAX_HEADER`] bytes are ever needed.
///
/// # Errors
/// Why this is not a header that can be taken, as half a sentence.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    for (start, parse) in [(V1, parse_v1 as fn(&[u8]) -> _), (V2, parse_v2)] {
        if bytes.starts_with(start) {
            return parse(bytes);
        }
        if start.starts_with(bytes) {
            return Ok(None);
        }
    }
    Err("the first bytes are not a header of the PROXY protocol")
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let longest = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = longest.iter().position(|byte| *byte == b'\n') else {
        if longest.len() == MAX_V1 {
            return Err("the header of version 1 has no end within 107 bytes");
        }
        return Ok(None);
    };
    let line = longest[V1.len()..end].strip_suffix(b"\r");
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or("the header of version 1 is not a line of text that ends with CRLF")?;
    let size = end + 1;
    let client = match line.split(' ').collect::<Vec<_>>()[..] {
        ["UNKNOWN", ..] => return Ok(Some(Header { size, client: None })),
        ["TCP4", source, to, port, to_port] => addresses::<Ipv4Addr>([source, to], [port, to_port]),
        ["TCP6", source, to, port, to_port] => addresses::<Ipv6Addr>([source, to], [port, to_port]),
        _ => None,
    };
    match client {
        Some(_) => Ok(Some(Header { size, client })),
        None => Err("the header of version 1 has no addresses that can be read"),
    }
}

/// The source's address, if both addresses and both ports are good.
fn addresses<A>(addresses: [&str; 2], ports: [&str; 2]) -> Option<SocketAddr>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let [source, to] = addresses.map(|address| address.parse::<A>().ok());
    let [source_port, to_port] = ports.map(port);
    (to.is_some() && to_port.is_some())
        .then(|| Some(SocketAddr::new(source?.into(), source_port?)))
        .flatten()
}

/// A port as the protocol writes it: digits, no zero in front.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit());
    let shortest = text == "0" || !text.starts_with('0');
    (plain && shortest).then(|| text.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else { return Ok(None) };
    let (version, command, family, transport) =
        (fixed[12] >> 4, fixed[12] & 0xf, fixed[13] >> 4, fixed[13] & 0xf);
    if version != 2 || command > 1 {
        return Err("the header of version 2 has an unknown version or command");
    }
    if family > 3 || transport > 2 {
        return Err("the header of version 2 has an unknown kind of address");
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let size = V2_FIXED + length;
    if size > MAX_HEADER {
        return Err("the header of version 2 is longer than 4096 bytes");
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let client = match (command, family) {
        // The proxy's own connection, or one whose client has no IP address.
        (0, _) | (_, 0) => Some(None),
        (_, 1) => body.get(..12).map(|body| Some(source::<4, Ipv4Addr>(body))),
        (_, 2) => body.get(..36).map(|body| Some(source::<16, Ipv6Addr>(body))),
        _ => body.get(..216).map(|_| None),
    };
    let client = client.ok_or("the header of version 2 is too short for its addresses")?;
    Ok(Some(Header { size, client }))
}

/// The source of two addresses of `N` bytes each with their ports behind them.
fn source<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(body: &[u8]) -> SocketAddr {
    let mut address = [0; N];
    address.copy_from_slice(&body[..N]);
    let port = u16::from_be_bytes([body[2 * N], body[2 * N + 1]]);
    SocketAddr::new(A::from(address).into(), port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    fn v2_addresses(source: SocketAddr, more: &[u8]) -> Vec<u8> {
        let (family, mut body) = match source.ip() {
            IpAddr::V4(ip) => (0x11, [ip.octets(), [127, 0, 0, 1]].concat()),
            IpAddr::V6(ip) => (0x21, [ip.octets(), [7; 16]].concat()),
        };
        body.extend_from_slice(&source.port().to_be_bytes());
        body.extend_from_slice(&[0, 80]);
        body.extend_from_slice(more);
        v2(0x21, family, &body)
    }

    fn v1_addresses(source: SocketAddr) -> Vec<u8> {
        let (family, to) = if source.is_ipv4() { ("TCP4", "127.0.0.1") } else { ("TCP6", "::1") };
        format!("PROXY {family} {} {to} {} 80\r\n", source.ip(), source.port()).into_bytes()
    }

    #[test]
    fn headers_without_a_client() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ::1 65535 65535\r\n".to_vec(),
            v2(0x20, 0, b""),
            v2(0x20, 0x11, b"whatever it is"),
            v2(0x21, 0, b"more"),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            let size = header.len();
            assert_eq!(parse(&header), Ok(Some(Header { size, client: None })), "{header:?}");
        }
    }

    #[test]
    fn the_longest_headers() {
        let line = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(line.len(), MAX_V1);
        assert_eq!(parse(line.as_bytes()).unwrap().unwrap().size, MAX_V1);
        assert_eq!(parse(line.replace("\r\n", " \r\n").as_bytes()).ok(), None);
        let longest = v2(0x20, 0, &[0; MAX_HEADER - 16]);
        assert_eq!(parse(&longest).unwrap().unwrap().size, MAX_HEADER);
        // Told by its first bytes.
        assert!(parse(&v2(0x20, 0, &[0; MAX_HEADER - 15])[..16]).is_err());
    }

    #[test]
    fn what_is_not_a_header() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.\xff 1 2\r\n",
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x13, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x31, &[0; 215]),
        ] {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
    }

    proptest! {
        /// Whatever follows, the address comes out; and until the last byte is there, nothing does.
        #[test]
        fn an_address_comes_out_as_it_went_in(
            source in address(),
            tlvs in prop::collection::vec(any::<u8>(), 0..64),
            follows in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            for header in [v1_addresses(source), v2_addresses(source, &tlvs)] {
                let size = header.len();
                for end in 0..size {
                    prop_assert_eq!(parse(&header[..end]), Ok(None));
                }
                let bytes = [&header[..], &follows].concat();
                prop_assert_eq!(parse(&bytes), Ok(Some(Header { size, client: Some(source) })));
            }
        }
    }
}
