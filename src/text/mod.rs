//! Text from outside: escaped, cut, split into lines, matched against patterns, read as units and
//! positions; and how often the log may speak of it. Pure.

pub(crate) mod age;
pub mod channel;
pub mod escape;
pub mod excerpt;
pub mod glob;
pub mod lines;
pub mod position;
pub mod throttle;
pub mod units;
