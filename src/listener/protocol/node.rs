//! The name of a node of a cluster: four letters and digits, made at random when `serve` starts.

use std::fmt;
use std::num::NonZeroU32;

/// A node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node(NonZeroU32);

pub(super) const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Letters and digits of a name. The first one is a letter.
const LENGTH: usize = 4;

impl Node {
    /// Bits of a node's number. All numbers but 0 have a name.
    pub(crate) const BITS: u32 = 20;

    /// One at random.
    pub(crate) fn random() -> Node {
        let number = fastrand::u32(1..1 << Node::BITS);
        Node(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    /// The node with this number; `None` if it is 0 or too large.
    pub(crate) fn from_number(number: u32) -> Option<Node> {
        NonZeroU32::new(number).filter(|number| number.get() >> Node::BITS == 0).map(Node)
    }

    /// Its number.
    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }

    /// Appends the name to `out`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let mut name = [0u8; LENGTH];
        let mut rest = self.0.get() as usize;
        for at in (1..LENGTH).rev() {
            name[at] = DIGITS[rest % 36];
            rest /= 36;
        }
        // 2^20 is below 26 * 36^3.
        name[0] = DIGITS[10 + rest];
        out.extend_from_slice(&name);
    }

    /// Parses a name.
    pub(crate) fn parse(name: &str) -> Option<Node> {
        let bytes: [u8; LENGTH] = name.as_bytes().try_into().ok()?;
        let value = |digit: u8| DIGITS.iter().position(|known| *known == digit);
        let mut number = value(bytes[0])?.checked_sub(10)?;
        for digit in &bytes[1..] {
            number = number * 36 + value(*digit)?;
        }
        Node::from_number(u32::try_from(number).ok()?)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = Vec::with_capacity(LENGTH);
        self.write(&mut name);
        f.write_str(&String::from_utf8_lossy(&name))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_name() {
        for number in (1..1 << Node::BITS).step_by(77).chain([(1 << Node::BITS) - 1]) {
            let node = Node::from_number(number).unwrap();
            assert_eq!(Node::parse(&node.to_string()), Some(node));
        }
        for name in ["", "a", "abc", "abcde", "1abc", "ABCD", "zzzz", "a000", "ab.c", "abc\u{e9}"] {
            assert_eq!(Node::parse(name), None, "{name}");
        }
        assert!(Node::from_number(0).is_none() && Node::from_number(1 << Node::BITS).is_none());
    }
}
