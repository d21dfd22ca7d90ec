//! Which ports are free, and which connection has the others.
//!
//! Lent is what has been back for longest, so that a number rests a while between two holders.

use config::PortRange;
use std::collections::{BTreeMap, VecDeque};

/// A connection, by a number that is never used again.
pub(super) type Holder = u64;

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    Lend,
    GiveBack(u32),
    GiveAllBack,
}

/// Bytes of a request.
pub(super) const REQUEST_LEN: usize = 8;

impl Request {
    /// `None`: there is no such code.
    pub(super) fn decode(bytes: [u8; REQUEST_LEN]) -> Option<Request> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let port = u32::from_be_bytes([e, f, g, h]);
        match u32::from_be_bytes([a, b, c, d]) {
            0 => Some(Request::Lend),
            1 => Some(Request::GiveBack(port)),
            2 => Some(Request::GiveAllBack),
            _ => None,
        }
    }
}

/// The ports of a range.
#[derive(Debug)]
pub(super) struct Pool {
    free: VecDeque<u32>,
    lent: BTreeMap<u32, Holder>,
}

impl Pool {
    pub(super) fn new(ports: PortRange) -> Pool {
        Pool {
            free: (ports.start().0..=ports.end().0).collect(),
            lent: BTreeMap::new(),
        }
    }

    /// Does what a connection asks for, and returns the answer.
    pub(super) fn serve(&mut self, holder: Holder, request: Request) -> i32 {
        match request {
            Request::Lend => self.lend(holder).map_or(-1, |port| port as i32),
            Request::GiveBack(port) => i32::from(self.give_back(holder, port)),
            Request::GiveAllBack => {
                self.give_all_back(holder);
                1
            }
        }
    }

    fn lend(&mut self, holder: Holder) -> Option<u32> {
        let port = self.free.pop_front()?;
        self.lent.insert(port, holder);
        Some(port)
    }

    fn give_back(&mut self, holder: Holder, port: u32) -> bool {
        if self.lent.get(&port) != Some(&holder) {
            return false;
        }
        self.lent.remove(&port);
        self.free.push_back(port);
        true
    }

    /// Everything that a connection has.
    pub(super) fn give_all_back(&mut self, holder: Holder) {
        let free = &mut self.free;
        self.lent.retain(|&port, &mut by| {
            if by == holder {
                free.push_back(port);
            }
            by != holder
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::PortNo;
    use proptest::prelude::*;

    fn pool(first: u32, last: u32) -> Pool {
        Pool::new(PortRange::new(PortNo(first), PortNo(last)).unwrap())
    }

    #[test]
    fn codes_and_ports_are_big_endian() {
        let bytes = [0, 0, 0, 1, 0, 0, 1, 2];
        assert_eq!(Request::decode(bytes), Some(Request::GiveBack(258)));
        assert_eq!(Request::decode([0; 8]), Some(Request::Lend));
        assert_eq!(
            Request::decode([0, 0, 0, 2, 9, 9, 9, 9]),
            Some(Request::GiveAllBack)
        );
        assert_eq!(Request::decode([0, 0, 0, 3, 0, 0, 0, 0]), None);
        assert_eq!(Request::decode([1, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn what_is_lent_belongs_to_one() {
        let mut pool = pool(3, 4);
        assert_eq!(pool.serve(7, Request::Lend), 3);
        assert_eq!(pool.serve(8, Request::Lend), 4);
        assert_eq!(pool.serve(8, Request::Lend), -1);
        assert_eq!(pool.serve(8, Request::GiveBack(3)), 0);
        assert_eq!(pool.serve(8, Request::GiveBack(5)), 0);
        assert_eq!(pool.serve(7, Request::GiveBack(3)), 1);
        assert_eq!(pool.serve(7, Request::GiveBack(3)), 0);
        assert_eq!(pool.serve(8, Request::Lend), 3);
        assert_eq!(pool.serve(8, Request::GiveAllBack), 1);
        assert_eq!(pool.serve(7, Request::Lend), 3);
    }

    proptest! {
        #[test]
        fn no_port_is_lost_or_lent_twice(steps in proptest::collection::vec((0u64..4, 0u32..12, 0u8..4), 0..200)) {
            let mut pool = pool(2, 9);
            for (holder, port, what) in steps {
                match what {
                    0 | 1 => { pool.serve(holder, Request::Lend); }
                    2 => { pool.serve(holder, Request::GiveBack(port)); }
                    _ => pool.give_all_back(holder),
                }
                let mut all: Vec<u32> = pool.free.iter().chain(pool.lent.keys()).copied().collect();
                all.sort_unstable();
                prop_assert_eq!(all, (2..=9).collect::<Vec<_>>());
            }
        }
    }
}
