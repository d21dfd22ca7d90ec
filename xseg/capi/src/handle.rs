//! What `xseg_join` returns: ports, requests and transfers of one join, behind one lock.
//!
//! One lock for all of it is enough: a program joins once for each disk, and only a submitter and
//! a receiver meet there. Nobody sleeps under it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Done;
use parking_lot::{Mutex, RwLock};
use xseg::Request;
use xseg::protocol::PortNo;

use crate::abi::{self, REQUESTS_MAX, xport, xseg_port};
use crate::node::{self, Node, Presence};
use crate::port::Port;
use crate::request::{Held, Turn};
use crate::shared::Shared;
use crate::transfer::{self, Memory, Transfer};

/// One join.
pub struct Handle {
    node: Arc<Node>,
    state: Mutex<State>,
}

pub(crate) struct State {
    shell: Shared<abi::xseg_handle>,
    pub(crate) ports: HashMap<PortNo, Port>,
    pub(crate) requests: HashMap<usize, Held>,
    transfers: HashMap<u32, Transfer>,
    last_transfer: u32,
}

type Table = HashMap<usize, Arc<Handle>>;
static HANDLES: RwLock<Option<Table>> = RwLock::new(None);

/// Where a segment is handed out: `name` in the run directory, or itself an absolute path.
fn socket_of(name: &str) -> PathBuf {
    match name.starts_with('/') {
        true => name.into(),
        false => config::paths::default_run_dir().join(format!("{name}.sock")),
    }
}

/// Joins the segment called `name`.
pub(crate) fn join(name: &str) -> Result<*mut abi::xseg_handle, String> {
    join_at(&socket_of(name)).map_err(|e| e.to_string())
}

fn join_at(socket: &Path) -> Result<*mut abi::xseg_handle, xseg::join::JoinError> {
    let node = node::join(socket)?;
    let state = State::new();
    let pointer = state.shell.as_ptr();
    let handle = Handle {
        node,
        state: Mutex::new(state),
    };
    let mut handles = HANDLES.write();
    let table = handles.get_or_insert_default();
    table.insert(pointer as usize, Arc::new(handle));
    Ok(pointer)
}

/// The handle behind a pointer of C's.
pub(crate) fn find(pointer: *const abi::xseg_handle) -> Result<Arc<Handle>, String> {
    let handles = HANDLES.read();
    let found = handles.as_ref().and_then(|t| t.get(&(pointer as usize)));
    match found {
        None => Err("this is no handle that xseg_join returned, or it was left".into()),
        Some(handle) if !handle.node.is_ours() => {
            Err("the segment was joined by the parent of this process; join it again".into())
        }
        Some(handle) => Ok(handle.clone()),
    }
}

/// Leaves: every port of the handle is given back.
pub(crate) fn leave(pointer: *const abi::xseg_handle) -> Result<(), String> {
    let handle = find(pointer)?;
    let mut handles = HANDLES.write();
    if let Some(table) = handles.as_mut() {
        table.remove(&(pointer as usize));
    }
    drop(handles);
    let mut state = handle.state.lock();
    let ports: Vec<PortNo> = state.ports.keys().copied().collect();
    ports.into_iter().for_each(|port| state.unbind(port));
    Ok(())
}

impl Handle {
    /// The state, for one call.
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether the node is there.
    pub(crate) fn presence(&self) -> Presence {
        self.node.presence()
    }

    /// Binds a dynamic port, or the static port `fixed`.
    pub(crate) fn bind(&self, fixed: Option<PortNo>) -> Result<*mut xseg_port, String> {
        // Before the new one takes it over.
        if let Some(no) = fixed {
            self.lock().unbind(no);
        }
        let port = match fixed {
            None => Port::dynamic(&self.node)?,
            Some(no) => Port::fixed(&self.node, no)?,
        };
        let shell = port.shell.as_ptr();
        self.lock().ports.insert(port.no(), port);
        Ok(shell)
    }
}

fn no_port(port: xport) -> String {
    format!("port {port} is not bound by this handle")
}

const NO_REQUEST: &str = "this is no request of this handle, or it was put back";
const NOT_YOURS: &str = "the request is under way";

impl State {
    fn new() -> State {
        State {
            shell: Shared::new(abi::xseg_handle { unused: 0 }),
            ports: HashMap::new(),
            requests: HashMap::new(),
            transfers: HashMap::new(),
            last_transfer: 0,
        }
    }

    pub(crate) fn port(&mut self, port: xport) -> Result<&mut Port, String> {
        self.ports.get_mut(&port).ok_or_else(|| no_port(port))
    }

    /// The port whose record is at this address.
    pub(crate) fn port_of_shell(&self, shell: *const xseg_port) -> Result<PortNo, String> {
        let found = self
            .ports
            .values()
            .find(|p| p.shell.address() == shell as usize);
        found
            .map(Port::no)
            .ok_or_else(|| "this is no port of this handle".into())
    }

    /// The port whose wake-up descriptor is at this address.
    pub(crate) fn port_of_desc(&self, desc: usize) -> Result<PortNo, String> {
        let found = self.ports.values().find(|p| p.desc.address() == desc);
        found
            .map(Port::no)
            .ok_or_else(|| "this is no signal descriptor of this handle".into())
    }

    pub(crate) fn request(&mut self, address: usize) -> Result<&mut Held, String> {
        self.requests
            .get_mut(&address)
            .ok_or_else(|| NO_REQUEST.into())
    }

    /// A request that its program may change, and its port.
    pub(crate) fn own_request(&mut self, address: usize) -> Result<(&mut Held, &mut Port), String> {
        let held = self.requests.get_mut(&address).ok_or(NO_REQUEST)?;
        if held.turn != Turn::Program {
            return Err(NOT_YOURS.into());
        }
        let port = self.ports.get_mut(&held.port);
        port.map(|port| (held, port))
            .ok_or_else(|| NO_REQUEST.into())
    }

    /// A new request from `src` to `dst`.
    pub(crate) fn get_request(
        &mut self,
        src: xport,
        dst: xport,
    ) -> Result<*mut abi::xseg_request, String> {
        let port = self.port(src)?;
        if port.requests >= REQUESTS_MAX {
            return Err(format!("port {src} has {REQUESTS_MAX} requests already"));
        }
        port.requests += 1;
        let held = Held::new(src, dst);
        let pointer = held.record.as_ptr();
        self.requests.insert(held.record.address(), held);
        Ok(pointer)
    }

    /// Frees a request.
    pub(crate) fn put_request(&mut self, address: usize) -> Result<(), String> {
        let (held, port) = self.own_request(address)?;
        held.free(&mut port.core);
        port.requests -= 1;
        self.requests.remove(&address);
        Ok(())
    }

    /// Takes in what was answered at a port.
    pub(crate) fn collect(&mut self, no: PortNo) -> Result<(), String> {
        let mut done = self.port(no)?.collect();
        for one in done.drain(..) {
            self.land(no, one);
        }
        self.port(no)?.keep(done);
        Ok(())
    }

    fn land(&mut self, no: PortNo, done: Done) {
        let Some(port) = self.ports.get_mut(&no) else {
            return;
        };
        if let Some((number, at)) = transfer::of_token(done.token) {
            if let Some(transfer) = self.transfers.get_mut(&number) {
                transfer.land(&mut port.core, at, &done);
                if transfer.dropped && transfer.under_way == 0 {
                    self.transfers.remove(&number);
                }
            }
        } else if let Some(held) = self.requests.get_mut(&(done.token as usize)) {
            port.landed.push_back(held.record.address());
            held.land(&mut port.core, done);
        }
    }

    /// The next answered request of a port.
    pub(crate) fn receive(&mut self, no: PortNo) -> Result<Option<*mut abi::xseg_request>, String> {
        loop {
            self.collect(no)?;
            let port = self.port(no)?;
            let Some(address) = port.landed.pop_front() else {
                if port.settle() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(held) = self.requests.get_mut(&address) {
                held.turn = Turn::Program;
                return Ok(Some(held.record.as_ptr()));
            }
        }
    }

    /// Gives a port back, with everything that hangs at it.
    pub(crate) fn unbind(&mut self, no: PortNo) {
        let Some(mut port) = self.ports.remove(&no) else {
            return;
        };
        for held in self.requests.values_mut().filter(|h| h.port == no) {
            if held.turn != Turn::Peer {
                held.free(&mut port.core);
            }
        }
        self.requests.retain(|_, held| held.port != no);
        self.transfers.retain(|_, transfer| transfer.port != no);
        port.leave();
    }

    // ---- transfers ----

    /// Begins a transfer on a port of ours.
    pub(crate) fn start(
        &mut self,
        from: PortNo,
        to: PortNo,
        request: Request,
        memory: Memory,
    ) -> Result<*mut abi::xseg_transfer, String> {
        self.port(from)?;
        let number = self.free_number();
        let mut transfer = Transfer::new(from, to, request, memory);
        transfer.step(number, &mut self.port(from)?.core);
        let pointer = transfer.shell.as_ptr();
        self.transfers.insert(number, transfer);
        Ok(pointer)
    }

    fn free_number(&mut self) -> u32 {
        loop {
            self.last_transfer = transfer::next_number(self.last_transfer);
            if !self.transfers.contains_key(&self.last_transfer) {
                return self.last_transfer;
            }
        }
    }

    fn number_of(&self, shell: usize) -> Result<u32, String> {
        let living = |(_, t): &(&u32, &Transfer)| t.shell.address() == shell && !t.dropped;
        let found = self.transfers.iter().find(living);
        found
            .map(|(number, _)| *number)
            .ok_or_else(|| "this is no transfer of this handle, or it was ended".into())
    }

    /// The port of a transfer.
    pub(crate) fn port_of_transfer(&self, shell: usize) -> Result<PortNo, String> {
        let number = self.number_of(shell)?;
        let transfer = self.transfers.get(&number);
        transfer.map(|t| t.port).ok_or_else(|| NO_REQUEST.into())
    }

    /// Goes on with a transfer. True: it is over.
    pub(crate) fn step(&mut self, shell: usize) -> Result<bool, String> {
        let number = self.number_of(shell)?;
        let port = self.port_of_transfer(shell)?;
        loop {
            self.collect(port)?;
            let (Some(transfer), Some(port)) =
                (self.transfers.get_mut(&number), self.ports.get_mut(&port))
            else {
                return Err(NO_REQUEST.into());
            };
            let over = transfer.step(number, &mut port.core);
            if over || port.settle() {
                return Ok(over);
            }
        }
    }

    /// Nothing will be answered any more: the transfer is over.
    pub(crate) fn abandon(&mut self, shell: usize) {
        if let Ok(number) = self.number_of(shell)
            && let Some(transfer) = self.transfers.get_mut(&number)
        {
            transfer.abandon();
        }
    }

    /// Ends a transfer, also one that is not over, and says why it failed (0: it did not).
    pub(crate) fn end(&mut self, shell: usize) -> Result<u32, String> {
        let number = self.number_of(shell)?;
        let Some(transfer) = self.transfers.get_mut(&number) else {
            return Err(NO_REQUEST.into());
        };
        let errno = transfer.errno();
        if transfer.under_way == 0 {
            self.transfers.remove(&number);
        } else {
            transfer.dropped = true;
            transfer.fail(libc::ECANCELED);
        }
        Ok(errno)
    }
}
