//! How many connections a gateway has, in all and by address: what `max-connections` and
//! `max-connections-per-ip` are held against.
//!
//! Shared by the shards. The total is one atomic; the counts by address are behind a lock that is
//! taken only while `max-connections-per-ip` is set.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The connections of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    open: AtomicUsize,
    by_address: Mutex<HashMap<AddressBlock, usize>>,
}

/// What counts as one address: an IPv4 address, or an IPv6 /64, which is one customer's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AddressBlock(IpAddr);

impl AddressBlock {
    /// The block of an address.
    pub(crate) fn of(ip: IpAddr) -> AddressBlock {
        AddressBlock(match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        })
    }
}

impl Occupancy {
    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection that opens, unless there are `max` already. Shards open connections at
    /// the same time, and never one too many.
    pub(crate) fn try_open(&self, max: usize) -> bool {
        let next = |n: usize| (n < max).then_some(n + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// A connection that was counted is gone.
    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection from an address, unless there are `max` already.
    pub(crate) fn try_count(&self, block: AddressBlock, max: usize) -> bool {
        let mut counts = self.by_address.lock();
        let count = counts.entry(block).or_insert(0);
        if *count >= max {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts a connection that is open already.
    pub(crate) fn count(&self, block: AddressBlock) {
        *self.by_address.lock().entry(block).or_insert(0) += 1;
    }

    /// A connection that was counted by address is gone.
    pub(crate) fn uncount(&self, block: AddressBlock) {
        let mut counts = self.by_address.lock();
        if let Some(count) = counts.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&block);
            }
            if counts.is_empty() {
                // A crowd that left gives its memory back.
                *counts = HashMap::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_64_counts_as_one_address() {
        let block = |ip: &str| AddressBlock::of(ip.parse().unwrap());
        assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff::9"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    }

    #[test]
    fn never_one_too_many() {
        let all = Occupancy::default();
        assert!(all.try_open(2) && all.try_open(2) && !all.try_open(2));
        all.closed();
        assert!(all.try_open(2));
        let block = AddressBlock::of("192.0.2.1".parse().unwrap());
        assert!(all.try_count(block, 1) && !all.try_count(block, 1));
        all.uncount(block);
        assert!(all.try_count(block, 1));
    }
}
