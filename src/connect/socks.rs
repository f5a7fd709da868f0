//! SOCKS 5 (RFC 1928), the client's side, with user and password (RFC 1929). Pure: bytes in, bytes
//! out; `connect/tunnel.rs` carries them.
//!
//! It is this small that no crate saves anything: the usual ones bring further crates, take no empty
//! password, and have SOCKS 4 beside it.

use std::net::IpAddr;

/// The version, which begins each message.
const VERSION: u8 = 5;

/// Ways to say who one is.
const NOBODY: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_WILL_DO: u8 = 0xff;

/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The first message: how the client can say who it is.
pub(super) fn greeting(has_user: bool) -> Vec<u8> {
    let ways: &[u8] = if has_user { &[NOBODY, PASSWORD] } else { &[NOBODY] };
    [&[VERSION, ways.len() as u8], ways].concat()
}

/// Whether the proxy wants user and password.
///
/// # Errors
/// What is wrong.
pub(super) fn wants_password(answer: [u8; 2], has_user: bool) -> Result<bool, String> {
    match answer {
        [VERSION, NOBODY] => Ok(false),
        [VERSION, PASSWORD] if has_user => Ok(true),
        [VERSION, NONE_WILL_DO] if has_user => Err("it takes neither user and password nor \
                                                    nobody"
            .to_owned()),
        [VERSION, NONE_WILL_DO | PASSWORD] => {
            Err("it wants a user and a password: write socks5h://USER:PASSWORD@HOST:PORT"
                .to_owned())
        }
        [VERSION, way] => {
            Err(format!("it chose the way {way} to authenticate, which was not offered"))
        }
        _ => Err("it does not speak SOCKS 5".to_owned()),
    }
}

/// User and password, each at most 255 bytes.
pub(super) fn password(user: &[u8], password: &[u8]) -> Vec<u8> {
    let (user, password) = (&user[..user.len().min(255)], &password[..password.len().min(255)]);
    [&[1, user.len() as u8], user, &[password.len() as u8], password].concat()
}

/// The answer to user and password.
///
/// # Errors
/// They are wrong.
pub(super) fn is_let_in(answer: [u8; 2]) -> Result<(), String> {
    match answer {
        [1, 0] => Ok(()),
        _ => Err("it does not accept this user and password".to_owned()),
    }
}

/// Asks for a connection to an address, or to a name that the proxy resolves.
///
/// # Errors
/// The name is too long.
pub(super) fn connect(host: &str, port: u16) -> Result<Vec<u8>, String> {
    let mut out = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            out.push(IPV4);
            out.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            out.push(IPV6);
            out.extend_from_slice(&address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| "the name is too long for SOCKS")?;
            out.extend_from_slice(&[NAME, length]);
            out.extend_from_slice(host.as_bytes());
        }
    }
    out.extend_from_slice(&port.to_be_bytes());
    Ok(out)
}

/// How many bytes of the answer to [`connect`] follow its first five.
///
/// # Errors
/// The proxy did not connect.
pub(super) fn rest_of_answer(answer: [u8; 5]) -> Result<usize, String> {
    let [version, reply, _, kind, first] = answer;
    if version != VERSION {
        return Err("it does not speak SOCKS 5".to_owned());
    }
    let why = match reply {
        0 => {
            return match kind {
                IPV4 => Ok(4 + 2 - 1),
                IPV6 => Ok(16 + 2 - 1),
                NAME => Ok(usize::from(first) + 2),
                other => Err(format!("its answer has an address of the unknown kind {other}")),
            };
        }
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable, or its name cannot be resolved",
        5 => "the connection was refused",
        6 => "the time to live expired",
        7 => "it cannot connect at all",
        8 => "it does not know this kind of address",
        other => return Err(format!("the reply is {other}")),
    };
    Err(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_rfcs() {
        assert_eq!(greeting(false), [5, 1, 0]);
        assert_eq!(greeting(true), [5, 2, 0, 2]);
        assert_eq!(password(b"ab", b""), [1, 2, b'a', b'b', 0]);
        assert_eq!(connect("10.0.0.1", 258).unwrap(), [5, 1, 0, 1, 10, 0, 0, 1, 1, 2]);
        assert_eq!(connect("a.b", 80).unwrap(), [5, 1, 0, 3, 3, b'a', b'.', b'b', 0, 80]);
        let v6 = connect("::1", 1).unwrap();
        assert_eq!((v6.len(), v6[3], v6[19]), (4 + 16 + 2, 4, 1));
        assert!(connect(&"x".repeat(256), 1).is_err());
    }

    #[test]
    fn answers() {
        assert_eq!(wants_password([5, 0], true), Ok(false));
        assert_eq!(wants_password([5, 2], true), Ok(true));
        for (answer, has_user) in
            [([5, 2], false), ([5, 0xff], true), ([5, 1], true), ([4, 0], true)]
        {
            assert!(wants_password(answer, has_user).is_err(), "{answer:?}");
        }
        assert!(
            is_let_in([1, 0]).is_ok() && is_let_in([1, 1]).is_err() && is_let_in([5, 0]).is_err()
        );
        assert_eq!(rest_of_answer([5, 0, 0, 1, 9]), Ok(5));
        assert_eq!(rest_of_answer([5, 0, 0, 4, 9]), Ok(17));
        assert_eq!(rest_of_answer([5, 0, 0, 3, 9]), Ok(11));
        for wrong in [[4, 0, 0, 1, 0], [5, 0, 0, 2, 0], [5, 1, 0, 1, 0], [5, 200, 0, 1, 0]] {
            assert!(rest_of_answer(wrong).is_err(), "{wrong:?}");
        }
    }
}
