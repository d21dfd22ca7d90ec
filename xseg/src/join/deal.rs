//! Who gets which seat, and who gets none.

use super::holder::{Guest, Holder, Notice, Place, Sitter};
use super::socket;
use super::table::ROLES_MAX;
use super::wire::{Answer, Hello, Wish, has};
use crate::layout::{Layout, SEATS};
use crate::reclaim::{self, FIRST_CLIENT, is_peer};
use crate::word::SeatNo;
use std::fs::File;
use std::os::fd::AsFd;

impl Holder {
    pub(super) fn consider(&mut self, id: u64, hello: &Hello) -> (Answer, Option<File>) {
        let dealt = self
            .check_rights(id, hello)
            .and_then(|()| match hello.wish {
                Wish::Client => self.deal_client(id, hello),
                Wish::Peer => self.deal_peer(id, hello),
                Wish::Observe => Ok(self.show(id)),
                Wish::Return => self.take_back(id, hello),
                Wish::Repair => Ok((self.repair(), None)),
                Wish::RecoverPort => Ok((self.recover_port(hello), None)),
            });
        dealt.unwrap_or_else(|refused| (refused, None))
    }

    fn check_rights(&self, id: u64, hello: &Hello) -> Result<(), Answer> {
        if hello.layout_hash != Layout::hash() {
            let text = "the node runs another version of Archipelago (its segment is laid out \
                        differently); stop the node and start it again";
            return Err(Answer::refused(libc::EPROTONOSUPPORT, text));
        }
        let Some(guest) = self.guests.get(&id) else {
            return Err(Answer::refused(libc::ENOTCONN, "the connection is gone"));
        };
        let owner = self.is_owner(guest);
        let member = self
            .spec
            .group
            .is_some_and(|group| socket::is_in_group(guest.socket.as_fd(), guest.who, group));
        let needs_owner = matches!(hello.wish, Wish::Peer | Wish::Repair | Wish::RecoverPort);
        if owner || (member && !needs_owner) {
            return Ok(());
        }
        let uid = guest.who.uid;
        let what = match hello.wish {
            Wish::Peer => "be a peer of",
            Wish::Repair | Wish::RecoverPort => "mend",
            _ => "join",
        };
        let text = format!(
            "user {uid} may not {what} this node, which belongs to user {}",
            self.uid
        );
        Err(Answer::refused(libc::EACCES, text))
    }

    fn is_owner(&self, guest: &Guest) -> bool {
        guest.who.uid == self.uid || guest.who.uid == 0
    }

    fn show(&self, id: u64) -> (Answer, Option<File>) {
        let owner = self.guests.get(&id).is_some_and(|g| self.is_owner(g));
        let private = if owner { has::PRIVATE } else { 0 };
        let answer = Answer {
            has: has::PUBLIC | has::BELLS | private,
            alive: self.alive(),
            ..Answer::default()
        };
        (answer, None)
    }

    fn repair(&self) -> Answer {
        let table = &self.table;
        let alive = |seat| self.may_live(seat);
        let repaired = reclaim::repair(&table.public, &table.private, &table.bells, &alive);
        Answer {
            text: repaired.to_string(),
            ..Answer::default()
        }
    }

    fn recover_port(&self, hello: &Hello) -> Answer {
        let (port, force) = (hello.first, hello.last != 0);
        let mut sum = reclaim::PortRecovery::default();
        for segment in self.table.segments() {
            let alive = |seat| self.may_live(seat);
            let one = reclaim::recover_port(segment, &self.table.bells, &alive, port, force);
            sum.failed += one.failed;
            sum.waiting += one.waiting;
            sum.served += one.served;
        }
        let text = format!(
            "port {port}: {} requests failed, {} wait for the peer to be started again, {} are \
             with a living server",
            sum.failed, sum.waiting, sum.served
        );
        Answer {
            text,
            ..Answer::default()
        }
    }

    /// Whether somebody sits at `seat` and may be alive.
    pub(super) fn may_live(&self, seat: SeatNo) -> bool {
        self.place(seat).is_occupied() && self.table.is_alive(seat)
    }

    fn deal_client(&mut self, id: u64, hello: &Hello) -> Result<(Answer, Option<File>), Answer> {
        self.part_with_dropped_seats(id);
        for seat in (FIRST_CLIENT..SEATS as u16).map(SeatNo) {
            if !matches!(self.place(seat), Place::Empty) {
                continue;
            }
            if let Some(own) = self.lock(seat)? {
                let has = has::PUBLIC | has::BELLS;
                return Ok((self.seat(seat, id, hello, has), Some(own)));
            }
        }
        let count = SEATS - u32::from(FIRST_CLIENT);
        let text = format!("all {count} seats for clients are taken; `xseg reportall` names them");
        Err(Answer::refused(libc::EAGAIN, text))
    }

    /// A process may drop one of its seats and keep the connection.
    fn part_with_dropped_seats(&mut self, id: u64) {
        let dropped: Vec<SeatNo> = self
            .seats_of(id)
            .filter(|&seat| !is_peer(seat) && !self.table.is_alive(seat))
            .collect();
        dropped.into_iter().for_each(|seat| self.bury(seat));
    }

    fn deal_peer(&mut self, id: u64, hello: &Hello) -> Result<(Answer, Option<File>), Answer> {
        let role = hello.display_name();
        let seat = self.seat_for_role(&role)?;
        self.check_ports(seat, hello)?;
        if self.place(seat).is_occupied() {
            if self.table.is_alive(seat) {
                return Err(Answer::refused(
                    libc::EBUSY,
                    format!("{role} is running already"),
                ));
            }
            self.bury(seat);
        }
        match self.lock(seat)? {
            Some(own) => {
                let has = has::PUBLIC | has::PRIVATE | has::LOCKS | has::BELLS;
                Ok((self.seat(seat, id, hello, has), Some(own)))
            }
            None => Err(Answer::refused(
                libc::EBUSY,
                format!("{role} is running already"),
            )),
        }
    }

    fn seat_for_role(&self, role: &str) -> Result<SeatNo, Answer> {
        let unused = || {
            (0..ROLES_MAX)
                .map(SeatNo)
                .find(|&s| matches!(self.place(s), Place::Empty))
        };
        self.seat_of_role(role).or_else(unused).ok_or_else(|| {
            let text = format!("there is no seat for {role}: a node has at most {ROLES_MAX} roles");
            Answer::refused(libc::ENOSPC, text)
        })
    }

    /// Two living roles never serve the same port.
    fn check_ports(&self, seat: SeatNo, hello: &Hello) -> Result<(), Answer> {
        let (first, last) = (hello.first, hello.last);
        let ports = self.table.public.layout().spec.ports;
        if first > last || last >= ports {
            let text = format!("there are no ports {first} to {last}: the segment has {ports}");
            return Err(Answer::refused(libc::EINVAL, text));
        }
        let clash = (0..ROLES_MAX)
            .map(SeatNo)
            .filter(|&s| s != seat)
            .find(|&s| {
                let place = self.place(s);
                let sitter = place.sitter().filter(|_| place.is_occupied());
                sitter.is_some_and(|s| s.ports.0 <= last && first <= s.ports.1)
                    && self.table.is_alive(s)
            });
        let Some(sitter) = clash.and_then(|s| self.place(s).sitter()) else {
            return Ok(());
        };
        let (name, from, to) = (&sitter.name, sitter.ports.0, sitter.ports.1);
        let text = format!("{name} serves the ports {from} to {to} already");
        Err(Answer::refused(libc::EADDRINUSE, text))
    }

    fn lock(&self, seat: SeatNo) -> Result<Option<File>, Answer> {
        self.table.locks(seat).lock(seat).map_err(|e| {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            Answer::refused(errno, format!("can't lock seat {}: {e}", seat.0))
        })
    }

    fn seat(&mut self, seat: SeatNo, id: u64, hello: &Hello, has: u32) -> Answer {
        let name = hello.display_name();
        let pid = self.guests.get(&id).map_or(0, |g| g.who.pid);
        let ports = (hello.first, hello.last);
        self.table.introduce(seat, pid, &hello.name);
        self.places[usize::from(seat.0)] = Place::Taken(
            Sitter {
                name: name.clone(),
                ports,
            },
            id,
        );
        self.notices.push(Notice::Joined { seat, name, pid });
        let shared = if hello.more { 0 } else { has };
        Answer {
            seat: seat.0,
            has: shared | has::OWN,
            ..Answer::default()
        }
    }

    /// A process goes on with its seats: they are watched over its new connection.
    fn take_back(&mut self, id: u64, hello: &Hello) -> Result<(Answer, Option<File>), Answer> {
        if hello.generation != self.table.public.generation() {
            let text = "the node was started anew with another segment; join it again";
            return Err(Answer::refused(libc::ESTALE, text));
        }
        for seat in hello.seats.iter() {
            // Whoever claims a seat that is not its own only causes a look at the seat's lock.
            if let Place::Orphan(sitter, _) = self.place(seat) {
                self.places[usize::from(seat.0)] = Place::Taken(sitter.clone(), id);
            }
        }
        Ok((Answer::default(), None))
    }
}
