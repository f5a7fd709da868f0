//! `wsgw check` and `wsgw serve --check-config`.

pub(crate) mod config;
