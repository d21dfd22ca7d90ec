//! How a seat goes to sleep without missing what comes in.

use super::Seat;
use crate::bell;
use crate::inbox;
use crate::sync::Ordering;

impl Seat {
    /// Says that I go to sleep until my bell rings. False: something came in meanwhile.
    pub fn doze(&self) -> bool {
        let asleep = self.regions.iter().all(|r| {
            r.segment
                .member(self.no)
                .is_some_and(|m| m.rescan.load(Ordering::SeqCst) == 0 && inbox::doze(&m.head))
        });
        if !asleep {
            self.wake();
        }
        asleep
    }

    /// The same while a predecessor's requests are under way: what comes in besides their answers
    /// is left for later, found by the scan that follows the recovery.
    pub fn doze_for_recovery(&self) -> bool {
        for member in self
            .regions
            .iter()
            .filter_map(|r| r.segment.member(self.no))
        {
            let mail = inbox::has_mail(&member.head);
            if mail {
                member.head.store(0, Ordering::SeqCst);
                member.rescan.store(1, Ordering::SeqCst);
            }
            if mail || !inbox::doze(&member.head) {
                self.wake();
                return false;
            }
        }
        true
    }

    /// Says that I am awake.
    pub fn wake(&self) {
        self.members(|m| inbox::wake(&m.head));
    }

    /// Whether something waits in an inbox.
    pub fn has_mail(&self) -> bool {
        self.regions
            .iter()
            .filter_map(|r| r.segment.member(self.no))
            .any(|m| m.rescan.load(Ordering::Relaxed) != 0 || inbox::has_mail(&m.head))
    }

    /// Takes the ringing out of my bell.
    pub fn hush(&self) {
        if let Some(fd) = self.bells.descriptor(self.no) {
            bell::hush(fd);
        }
    }
}
