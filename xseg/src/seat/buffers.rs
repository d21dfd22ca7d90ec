//! A seat's buffers: its own, those it takes for others, and those that requests name.
//!
//! What always holds: an extent that is handed out lies inside the buffers of a region that the
//! request may name, whatever the segment says.

use super::{Incoming, Seat, Ticket};
use crate::segment::Extent;
use crate::slot::Address;
use crate::word::SeatNo;

impl Seat {
    /// Takes a buffer of at least `len` bytes in `region`; exactly `len` of it are addressed.
    pub fn take_buffer(&mut self, region: u8, len: u64) -> Option<Extent> {
        self.take_buffer_for(self.no, region, len)
    }

    /// The same on behalf of another seat, which frees it: for a reply larger than its request.
    pub fn take_buffer_for(&mut self, seat: SeatNo, region: u8, len: u64) -> Option<Extent> {
        let place = self.regions.get_mut(usize::from(region))?;
        let taken = place.segment.take_buffer(&mut place.hints, seat, len)?;
        Extent::new(
            &place.segment,
            Address {
                region,
                offset: taken.offset,
            },
            len,
        )
    }

    /// Gives back a buffer of mine by its first address. False: I hold none there.
    pub fn give_buffer_back(&mut self, address: Address) -> bool {
        let Some(place) = self.regions.get_mut(usize::from(address.region)) else {
            return false;
        };
        place
            .segment
            .give_buffer_back(&mut place.hints, self.no, address.offset)
    }

    /// Where the data of an answered request is now (a server may have enlarged it); `None` when
    /// that lies outside the buffers.
    pub fn reply_data(&self, ticket: &Ticket) -> Option<Extent> {
        let token = &ticket.0;
        let slot = self.regions[usize::from(token.region)]
            .segment
            .slot(token.slot)?;
        let (address, len) = slot.read_data();
        self.extent(token.region, address, len)
    }

    /// Where the data of an answered request is now, unchecked.
    pub fn reply_address(&self, ticket: &Ticket) -> Option<Address> {
        let token = &ticket.0;
        let segment = &self.regions[usize::from(token.region)].segment;
        Some(segment.slot(token.slot)?.read_data().0)
    }

    /// The buffers at `address` as a request of `region` may name them: a public request never
    /// reaches the peers' own region.
    pub fn extent(&self, region: u8, address: Address, len: u64) -> Option<Extent> {
        if address.region > region {
            return None;
        }
        Extent::new(self.segment(address.region)?, address, len)
    }

    /// Gives the sender of a request other data, taken for it by [`Seat::take_buffer_for`].
    pub fn replace_data(&self, incoming: &Incoming, data: Address, datalen: u64) {
        self.slot_of(&incoming.0).write_data(data, datalen);
    }
}
