//! The name of a connection: `k` and a number in base 36. It is unique among all gateways of a `serve`
//! process and is not used again while that process runs.

use std::fmt;

/// The number of a connection, which is displayed as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl ConnId {
    /// Appends the name to `out`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        // 13 digits hold every u64 in base 36.
        let mut buffer = [0u8; 13];
        let mut at = buffer.len();
        let mut rest = self.0;
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
        Some(ConnId(number))
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = Vec::with_capacity(14);
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
        fn a_connection_has_one_name(name in "[k0-9a-zK]{0,15}") {
            if let Some(id) = ConnId::parse(&name) {
                prop_assert_eq!(id.to_string(), name);
            }
        }
    }

    #[test]
    fn other_spellings_are_not_names() {
        for name in ["", "k", "k01", "K1", "k1 ", "k-1", "x1", "kzzzzzzzzzzzzzzzz", "ké"] {
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
