//! The name of a connection: `k` and a number in base 36, unique among all gateways of a `serve`
//! and never used again while it runs.

use std::fmt;

/// A connection's number; shown as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl ConnId {
    /// Appends the name.
    pub fn write(self, out: &mut Vec<u8>) {
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

    /// The number behind a name, if it is one that [`ConnId::write`] makes: no other spelling
    /// names the same connection.
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

/// The connections behind `names`, each once; what names none is returned apart.
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
        fn a_name_and_its_number_are_one(number: u64) {
            let id = ConnId(number);
            prop_assert_eq!(ConnId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn no_two_names_for_one_connection(name in "[k0-9a-zK]{0,15}") {
            if let Some(id) = ConnId::parse(&name) {
                prop_assert_eq!(id.to_string(), name);
            }
        }
    }

    #[test]
    fn names_that_are_none() {
        for name in ["", "k", "k01", "K1", "k1 ", "k-1", "x1", "kzzzzzzzzzzzzzzzz", "ké"] {
            assert_eq!(ConnId::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_are_resolved_once_each() {
        let names = ["k9", "k3", "k9", "bob", "k03", "bob"].map(String::from);
        assert_eq!(
            resolve(&names),
            (vec![ConnId(3), ConnId(9)], vec!["bob".to_owned(), "k03".to_owned()])
        );
    }
}
