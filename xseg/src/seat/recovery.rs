//! Taking over a seat after its owner's death (a peer's; clients' seats are swept instead).
//!
//! The successor looks at every state word. What the dead had not sent, or had been answered, is
//! freed; what nobody started is taken back; what it was serving is done again, with one more
//! attempt counted. What others still do for it must end before anything is served.

use super::{Incoming, PUBLIC, RequestId, Seat, Token};
use crate::sync::Ordering;
use crate::word::{SlotNo, State};

impl Seat {
    /// Takes over what the seat's previous owner left: frees what it had not sent or had been
    /// answered, takes back what nobody started, and counts its last attempt on what it served.
    pub fn recover(&mut self) -> Recovery {
        let mut recovery = Recovery::default();
        for number in 0..self.regions.len() as u8 {
            self.discard_chain(number);
            for slot in 0..self.regions[usize::from(number)]
                .segment
                .layout()
                .spec
                .slots
            {
                self.recover_slot(number, SlotNo(slot), &mut recovery);
            }
        }
        recovery
    }

    fn discard_chain(&mut self, number: u8) {
        let segment = &self.regions[usize::from(number)].segment;
        let Some(member) = segment.member(self.no) else {
            return;
        };
        // Everything is found by its state word; new senders may push from here on.
        member.head.store(0, Ordering::SeqCst);
        member.rescan.store(1, Ordering::SeqCst);
    }

    fn recover_slot(&mut self, region: u8, slot: SlotNo, recovery: &mut Recovery) {
        let record = self.regions[usize::from(region)]
            .segment
            .slot(slot)
            .expect("in range");
        loop {
            let Some(word) = record.state.load() else {
                return;
            };
            let mine = word.owner == self.no;
            match word.state {
                State::Serving if word.holder == self.no => {
                    record.count_attempt();
                    recovery
                        .requeued
                        .push(Incoming(Token { region, slot, word }));
                    return;
                }
                // Peers ask each other in the private region only; in the public one somebody
                // scribbled, and no answer would ever come.
                State::Serving if mine && region == PUBLIC => return,
                State::Serving if mine => {
                    let generation = word.generation;
                    recovery.waiting.push(RequestId {
                        region,
                        slot,
                        generation,
                    });
                    return;
                }
                State::Free => return,
                _ if mine => {
                    if record.state.change(word, word.with(State::Free, self.no)) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Drops from `recovery` what has been answered meanwhile; true when nothing is left to wait
    /// for. Then the buffers that the predecessor held are freed: to be called only when nothing
    /// of it can land any more (its drain lock is free).
    pub fn recovered(&mut self, recovery: &mut Recovery) -> bool {
        recovery.waiting.retain(|id| {
            let segment = &self.regions[usize::from(id.region)].segment;
            let Some(record) = segment.slot(id.slot) else {
                return false;
            };
            let Some(word) = record.state.load() else {
                return false;
            };
            let same = word.owner == self.no && word.generation == id.generation;
            if same && word.state == State::Answered {
                record.state.change(word, word.with(State::Free, self.no));
            }
            same && matches!(word.state, State::Serving | State::Queued)
        });
        if !recovery.waiting.is_empty() {
            return false;
        }
        for region in &self.regions {
            crate::buffer::give_back_all(region.segment.words(), self.no);
        }
        true
    }
}

/// What a predecessor left.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Its requests that another server works on: nothing may be served before their answers.
    pub waiting: Vec<RequestId>,
    /// The requests that it was serving: to be done again, or recognised as done.
    pub requeued: Vec<Incoming>,
}
