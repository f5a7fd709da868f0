//! The name of a connection: `k` and a number in base 36. It is unique among all gateways of a `serve`
//! process and is not used again while that process runs. On a gateway with a cluster, the name of
//! the node stands in front of it: `b7xq.k9`.

use std::fmt;

use crate::listener::protocol::node::{DIGITS, Node};

/// The number of a connection, which is displayed as its name. The upper bits are the number of its
/// node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Bits of the number within a node: 17 trillion connections.
const NUMBER_BITS: u32 = u64::BITS - Node::BITS;

impl ConnId {
    /// The connection with this number on a node; `None`: without a cluster.
    pub(crate) fn on(node: Option<Node>, number: u64) -> ConnId {
        ConnId(node.map_or(0, |node| u64::from(node.number()) << NUMBER_BITS) | number)
    }

    /// The node; `None` without a cluster.
    pub(crate) fn node(self) -> Option<Node> {
        // What is left of the shift fits.
        Node::from_number((self.0 >> NUMBER_BITS) as u32)
    }

    /// Appends the name to `out`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        if let Some(node) = self.node() {
            node.write(out);
            out.push(b'.');
        }
        // 13 digits hold every u64 in base 36.
        let mut buffer = [0u8; 13];
        let mut at = buffer.len();
        let mut rest = self.0 & ((1 << NUMBER_BITS) - 1);
        loop {
            at -= 1;
            buffer[at] = DIGITS[(rest % 36) as usize];
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        out.push(b'k');
        out.extend_from_slice(&buffer[at..]);
    }

    /// Parses a name. Only the spelling that [`ConnId::write`] makes is a name, so a connection has
    /// only one name.
    pub fn parse(name: &str) -> Option<ConnId> {
        let (node, name) = match name.split_once('.') {
            Some((node, name)) => (Some(Node::parse(node)?), name),
            None => (None, name),
        };
        let digits = name.strip_prefix('k')?.as_bytes();
        let canonical = !digits.is_empty() && (digits.len() == 1 || digits[0] != b'0');
        if !canonical {
            return None;
        }
        let mut number = 0u64;
        for &digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'z' => digit - b'a' + 10,
                _ => return None,
            };
            number = number.checked_mul(36)?.checked_add(u64::from(value))?;
        }
        (number >> NUMBER_BITS == 0).then(|| ConnId::on(node, number))
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = Vec::with_capacity(19);
        self.write(&mut name);
        f.write_str(&String::from_utf8_lossy(&name))
    }
}

/// The connections with these names, sorted, each once. The second value holds the strings that are
/// not names, sorted, each once.
pub fn resolve(names: &[String]) -> (Vec<ConnId>, Vec<String>) {
    let mut ids = Vec::with_capacity(names.len());
    let mut unknown: Vec<String> = Vec::new();
    for name in names {
        match ConnId::parse(name) {
            Some(id) => ids.push(id),
            None => unknown.push(name.clone()),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    unknown.sort_unstable();
    unknown.dedup();
    (ids, unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_parses_to_its_number(number: u64) {
            let id = ConnId(number);
            prop_assert_eq!(ConnId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn a_connection_has_one_name(name in "([a-z0-9]{3,5}[.])?[k0-9a-zK]{0,15}") {
            if let Some(id) = ConnId::parse(&name) {
                prop_assert_eq!(id.to_string(), name);
            }
        }
    }

    #[test]
    fn other_spellings_are_not_names() {
        for name in [
            "",
            "k",
            "k01",
            "K1",
            "k1 ",
            "k-1",
            "x1",
            "kzzzzzzzzzzzzzzzz",
            "ké",
            "b7xq.",
            ".k1",
            "b7xq.k01",
            "1abc.k1",
            "b7x.k1",
            "b7xq.b7xq.k1",
            "zzzz.k1",
            "kzzzzzzzzzz",
        ] {
            assert_eq!(ConnId::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_are_resolved_without_duplicates() {
        let names = ["k9", "k3", "k9", "bob", "k03", "bob"].map(String::from);
        assert_eq!(
            resolve(&names),
            (vec![ConnId(3), ConnId(9)], vec!["bob".to_owned(), "k03".to_owned()])
        );
    }
}
