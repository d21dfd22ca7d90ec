//! A port that a program bound: its seat, what is under way on it, and how its owner is woken.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;

use client::{Core, Done};
use xseg::Seat;
use xseg::inbox::status;
use xseg::protocol::PortNo;
use xseg::seat::PUBLIC;
use xseg::spin::Spin;
use xseg::word::SeatNo;

use crate::abi::{posixfd_signal_desc, xseg_port};
use crate::node::{self, Node};
use crate::shared::Shared;

/// How often the owner of a port may change while it is taken.
const LOOKS_AT_A_PORT: usize = 16;

/// A bound port.
pub(crate) struct Port {
    pub(crate) core: Core,
    /// What C code sees of it.
    pub(crate) shell: Shared<xseg_port>,
    pub(crate) desc: Shared<posixfd_signal_desc>,
    /// Between `xseg_prepare_wait` and `xseg_cancel_wait`.
    waiting: bool,
    /// Requests answered and not yet received, by their address.
    pub(crate) landed: VecDeque<usize>,
    /// What was learnt about spinning; away while somebody spins. Making a new one asks the system
    /// how many cores there are, which takes longer than the spin.
    pub(crate) spin: Option<Spin>,
    /// How many requests the program holds.
    pub(crate) requests: usize,
    /// Kept for its vector.
    done: Vec<Done>,
}

impl Port {
    fn new(seat: Seat) -> Result<Port, String> {
        let bell = seat.bells().descriptor(seat.no());
        let fd = bell.ok_or("the node gave no bell")?.as_raw_fd();
        let shell = xseg_port {
            portno: seat.port(),
            owner: std::process::id(),
        };
        let desc = posixfd_signal_desc {
            signal_file: [0; 16],
            fd,
            flag: 0,
        };
        Ok(Port {
            core: Core::new(seat),
            shell: Shared::new(shell),
            desc: Shared::new(desc),
            waiting: false,
            landed: VecDeque::new(),
            spin: Some(Spin::default()),
            requests: 0,
            done: Vec::new(),
        })
    }

    /// A dynamic port.
    pub(crate) fn dynamic(node: &Node) -> Result<Port, String> {
        let mut seat = node.sit().map_err(|e| e.to_string())?;
        match seat.bind_dynamic() {
            Some(_) => Port::new(seat),
            None => {
                node::leave(seat);
                Err("every dynamic port of the segment is taken".into())
            }
        }
    }

    /// The static port `port`; it is taken over from a dead process, or from an earlier context of
    /// this one.
    pub(crate) fn fixed(node: &Node, port: PortNo) -> Result<Port, String> {
        let mut seat = node.sit().map_err(|e| e.to_string())?;
        match bind_fixed(node, &mut seat, port) {
            Ok(()) => Port::new(seat),
            Err(why) => {
                node::leave(seat);
                Err(why)
            }
        }
    }

    /// Which port it is.
    pub(crate) fn no(&self) -> PortNo {
        self.core.seat().port()
    }

    /// What was answered since the last call.
    pub(crate) fn collect(&mut self) -> Vec<Done> {
        let mut done = std::mem::take(&mut self.done);
        self.core.poll(&mut done);
        done
    }

    /// Gives the vector of [`Port::collect`] back.
    pub(crate) fn keep(&mut self, done: Vec<Done>) {
        self.done = done;
    }

    /// The owner will look at the descriptor: whoever answers rings.
    pub(crate) fn prepare_wait(&mut self) {
        self.core.wake();
        self.core.doze();
        self.set_waiting(true);
    }

    pub(crate) fn cancel_wait(&mut self) {
        self.core.seat().wake();
        self.set_waiting(false);
    }

    fn set_waiting(&mut self, waiting: bool) {
        self.waiting = waiting;
        self.desc.change(|desc| desc.flag = i32::from(waiting));
    }

    /// Nothing was found: whether the owner may sleep now. False: something came in meanwhile.
    pub(crate) fn settle(&self) -> bool {
        !self.waiting || self.core.doze()
    }

    /// Unbinds the port. What is still under way keeps its buffers until it is answered.
    pub(crate) fn leave(self) {
        node::leave(self.core.into_seat());
    }
}

fn bind_fixed(node: &Node, seat: &mut Seat, port: PortNo) -> Result<(), String> {
    let segment = seat.segment(PUBLIC).ok_or("the seat has no region")?;
    let spec = segment.layout().spec;
    if port >= spec.dynports {
        let last = spec.dynports.saturating_sub(1);
        return Err(format!(
            "port {port} is not static: the static ports of the segment are 0 to {last}"
        ));
    }
    // The holder may be unbinding a dead owner's ports at this very moment: look again.
    for _ in 0..LOOKS_AT_A_PORT {
        let owner = seat.segment(PUBLIC).and_then(|s| s.seat_of_port(port));
        if let Some(owner) = owner {
            refuse_the_living(node, seat, owner, port)?;
        }
        if seat.take_port(port, owner) {
            return Ok(());
        }
    }
    Err(format!("port {port} goes from one to another"))
}

/// A port that a living process serves is its own.
fn refuse_the_living(node: &Node, seat: &Seat, holder: SeatNo, port: PortNo) -> Result<(), String> {
    let member = seat.segment(PUBLIC).and_then(|s| s.member(holder));
    let member = member.ok_or("the port's seat does not exist")?;
    let pid = member.pid.load(xseg::sync::Ordering::Relaxed);
    let said_alive = member.status.load(xseg::sync::Ordering::SeqCst) == status::ALIVE;
    if !said_alive || pid == std::process::id() {
        return Ok(());
    }
    match node.is_alive(holder).map_err(|e| e.to_string())? {
        false => Ok(()),
        true => Err(format!(
            "port {port} is in use by {} (process {pid})",
            member.display_name()
        )),
    }
}
