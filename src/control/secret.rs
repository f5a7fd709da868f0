//! Random secrets: the token, codes, sessions.

/// `N` random bytes in hex.
///
/// # Errors
/// The system gives none.
pub(super) fn random_hex<const N: usize>() -> Result<String, String> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
