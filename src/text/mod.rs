//! Text from outside: escaped, split into lines, matched against patterns. Pure.

pub mod escape;
pub mod glob;
pub mod lines;
