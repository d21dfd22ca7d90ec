//! What a peer is: code that reacts to events and makes no system call itself.

use xseg::{Answer, Incoming, Request};

/// A peer. The host calls it, one call at a time, on one thread; it answers through its desk.
pub trait Peer {
    /// Somebody asks. The request was read once and its data range checked; everything else in
    /// it is foreign. Every request must be answered in the end, whatever it says.
    fn request(&mut self, incoming: Incoming, request: &Request);

    /// The answer to what was sent with `Desk::send` under `token`.
    fn reply(&mut self, token: u64, answer: Answer);

    /// Called at every turn: for peers with other sources of events (a driver). True: something
    /// happened.
    fn turn(&mut self) -> bool {
        false
    }

    /// Why this peer can serve no more though its process lives, as a sentence. The process ends
    /// then without answering what is under way, and its successor does it again.
    fn lost(&self) -> Option<String> {
        None
    }

    /// How much is under way: while it is not 0 the host may spin a little before it sleeps, and
    /// a stop waits.
    fn under_way(&self) -> usize;

    /// The predecessor's leftovers are cleared; requests come from now on.
    fn start(&mut self) {}

    /// The node begins to stop, and other peers are still to be asked for what they have under
    /// way: what waits for something that may never come is failed, and nothing begins to.
    fn give_up_waiting(&mut self) {}

    /// The node stops: no request comes any more and none is under way. What has to be given
    /// back is given back; true when that is done.
    fn finish(&mut self) -> bool {
        true
    }
}
