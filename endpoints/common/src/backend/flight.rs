//! The operations that an endpoint gave to its backend and has not been told the end of.
//!
//! What always holds: an operation is in the table from its submission to its completion, so what
//! was under way when a node went away is known, in the order in which it was submitted.

use super::Op;
use xseg::Extent;

/// Room that is made before any request comes; more is made when it is needed.
const FLIGHTS: usize = 256;

/// One operation.
pub(super) struct Flight {
    /// What the endpoint calls it.
    pub(super) token: u64,
    pub(super) op: Op,
    /// The endpoint's buffer, and in which segment (see `Line::epoch`) it lies.
    pub(super) data: Option<(Extent, u32)>,
    /// What stands for `data` at a node whose segment is another one.
    pub(super) shadow: Option<Extent>,
    /// Orders the submissions.
    pub(super) number: u64,
    /// A node has it now.
    pub(super) sent: bool,
    /// A node that went away had it.
    pub(super) again: bool,
}

/// All of them, by index.
pub(super) struct Flights {
    table: Vec<Option<Flight>>,
    free: Vec<u32>,
    next: u64,
}

impl Flights {
    pub(super) fn new() -> Flights {
        Flights {
            table: Vec::with_capacity(FLIGHTS),
            free: Vec::with_capacity(FLIGHTS),
            next: 0,
        }
    }

    pub(super) fn add(&mut self, token: u64, op: Op, data: Option<(Extent, u32)>) -> u32 {
        let flight = Flight {
            token,
            op,
            data,
            shadow: None,
            number: self.next,
            sent: false,
            again: false,
        };
        self.next += 1;
        if let Some(index) = self.free.pop() {
            self.table[index as usize] = Some(flight);
            return index;
        }
        self.table.push(Some(flight));
        self.table.len() as u32 - 1
    }

    pub(super) fn get(&mut self, index: u32) -> Option<&mut Flight> {
        self.table.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Flight> {
        let flight = self.table.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(flight)
    }

    /// How many a node has now.
    pub(super) fn sent(&self) -> usize {
        self.table.iter().flatten().filter(|f| f.sent).count()
    }

    /// Takes everything back from a node that is gone; what it had, in the order of submission.
    pub(super) fn recall(&mut self) -> Vec<u32> {
        let mut recalled: Vec<(u64, u32)> = Vec::new();
        for (index, flight) in self.table.iter_mut().enumerate() {
            let Some(flight) = flight.as_mut().filter(|f| f.sent) else {
                continue;
            };
            (flight.sent, flight.again, flight.shadow) = (false, true, None);
            recalled.push((flight.number, index as u32));
        }
        recalled.sort_unstable();
        recalled.into_iter().map(|(_, index)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_node_had_comes_back_in_the_order_of_submission() {
        let mut flights = Flights::new();
        let first = flights.add(1, Op::Flush, None);
        let gone = flights.add(2, Op::Flush, None);
        flights.remove(gone).unwrap();
        let waiting = flights.add(3, Op::Flush, None);
        let reused = flights.add(4, Op::Flush, None);
        assert_eq!(waiting, gone);
        for index in [reused, first] {
            flights.get(index).unwrap().sent = true;
        }
        assert_eq!(flights.recall(), vec![first, reused]);
        assert!(flights.get(first).unwrap().again);
        assert!(!flights.get(waiting).unwrap().again);
        assert_eq!(flights.sent(), 0);
    }
}
