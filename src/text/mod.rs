//! Text from outside: escaped, cut, split into lines, matched against patterns; and how often the
//! log may speak of it. Pure.

pub mod escape;
pub mod excerpt;
pub mod glob;
pub mod lines;
pub mod throttle;
