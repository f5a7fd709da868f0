//! The ids of gateways.

/// Puts an id as somebody writes it into the form in which it is kept: without the white space
/// around it, in lower case.
pub fn normal_id(id: &str) -> String {
    id.trim().to_ascii_lowercase()
}

/// Reads a gateway's id.
///
/// # Errors
/// It is not an id, and what would be one.
pub fn gateway_id(id: &str) -> Result<String, String> {
    let id = normal_id(id);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if (1..=64).contains(&id.len()) && id.chars().all(fits) {
        return Ok(id);
    }
    Err(format!(
        "{id:?} is not a gateway id: write 1 to 64 of a-z, 0-9, dot, underscore and hyphen"
    ))
}
