//! The embedded node: all peers inside the caller's process, on one thread of their own.
//!
//! ```text
//!   caller's threads: Client -- seat --+           +-- one thread: vlmcd mapperd blockerm blockerb
//!                     Client -- seat --+-- segment-+                          |         |
//!                                                                          driver    driver
//! ```
//! It is the very same peers over the very same segment as in a node of processes; only the
//! holder, the sockets and the signals are missing. Dropping it ends the peers: what is under way
//! is finished and the locks are given back.

use crate::engine::Engine;
use crate::process::seat_role;
use crate::roles;
use crate::roles::Purpose;
use client::{Client, Ports};
use config::paths::Places;
use config::role::THRESHOLD_DEFAULT;
use config::{HashAlgorithm, LOCK_TTL_S_DEFAULT, PortNo, PortRange, Role, RoleKind};
use driver::{MemoryDriver, MemoryStore};
use nix::sys::eventfd::{EfdFlags, EventFd};
use runtime::Desk;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use xseg::RegionSpec;
use xseg::join::Local;

/// Where the embedded node keeps its objects.
#[derive(Clone, Debug)]
pub enum Storage {
    /// As the roles say: a node's own configuration.
    Roles {
        /// The roles, all of them in this process.
        roles: Vec<Role>,
        /// Where drivers keep what must outlive them.
        places: Places,
        /// What it is there for.
        purpose: Purpose,
    },
    /// In memory, gone with the node.
    Memory,
}

/// A node inside this process.
pub struct Embedded {
    local: Local,
    ports: Ports,
    stop: EventFd,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// The ports of an embedded node in memory.
const PORTS: Ports = Ports {
    blockerb: 0,
    blockerm: 1,
    mapperd: 2,
    vlmcd: 3,
};
const NR_OPS: u32 = 256;

impl Embedded {
    /// Starts a node; `heap_mib` is the room for data under way. Returns when it serves.
    pub fn start(storage: Storage, heap_mib: u64) -> io::Result<Embedded> {
        let local =
            Local::new(RegionSpec::public(2048, 1024, heap_mib)).map_err(io::Error::other)?;
        let ports = ports_of(&storage)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (ready, serving) = channel();
        let theirs = (local.clone(), stop.as_fd().try_clone_to_owned()?);
        let thread = std::thread::Builder::new()
            .name("archipelago".into())
            .spawn(move || run(&theirs.0, storage, theirs.1, ready))?;
        let node = Embedded {
            local,
            ports,
            stop,
            thread: Some(thread),
        };
        match serving.recv() {
            Ok(()) => Ok(node),
            Err(_) => Err(node
                .outcome()
                .err()
                .unwrap_or(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// A node in memory.
    pub fn in_memory() -> io::Result<Embedded> {
        Embedded::start(Storage::Memory, 256)
    }

    /// A client for the calling thread.
    pub fn client(&self) -> io::Result<Client> {
        Ok(Client::new(self.local.client_seat("embedded")?, self.ports))
    }

    /// The table that its clients sit at.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Ends the node and says how it went.
    pub fn stop(self) -> io::Result<()> {
        self.stop.write(1)?;
        self.outcome()
    }

    fn outcome(mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the embedded node panicked")),
            Some(Ok(outcome)) => outcome,
            None => Ok(()),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The only failure is a full counter, which is readable too.
            let _ = self.stop.write(1);
            let _ = thread.join();
        }
    }
}

/// Where the mandatory roles serve.
pub fn ports(roles: &[Role]) -> Option<Ports> {
    let port = |name: &str| {
        roles
            .iter()
            .find(|r| r.name == name)
            .map(|r| r.ports.start().0)
    };
    Some(Ports {
        vlmcd: port("vlmcd")?,
        mapperd: port("mapperd")?,
        blockerm: port("blockerm")?,
        blockerb: port("blockerb")?,
    })
}

fn ports_of(storage: &Storage) -> io::Result<Ports> {
    match storage {
        Storage::Memory => Ok(PORTS),
        Storage::Roles { roles, .. } => ports(roles).ok_or_else(|| {
            io::Error::other("a node needs the roles blockerb, blockerm, mapperd and vlmcd")
        }),
    }
}

fn run(
    local: &Local,
    storage: Storage,
    stop: std::os::fd::OwnedFd,
    ready: Sender<()>,
) -> io::Result<()> {
    let mut engine = Engine::new(Some(stop))?;
    match storage {
        Storage::Memory => seat_memory(local, &mut engine)?,
        Storage::Roles {
            roles,
            places,
            purpose,
        } => {
            for role in &roles {
                let seat = local.peer_seat(&role.name)?;
                seat_role(&mut engine, role, seat, &places, purpose).map_err(io::Error::other)?;
            }
        }
    }
    engine.run(|| {
        // Nobody waits any more when `start` was given up.
        let _ = ready.send(());
    })
}

fn seat_memory(local: &Local, engine: &mut Engine) -> io::Result<()> {
    let places = Places::default();
    for name in ["blockerb", "blockerm"] {
        let port = if name == "blockerb" {
            PORTS.blockerb
        } else {
            PORTS.blockerm
        };
        let desk = Desk::new(local.peer_seat(name)?);
        let driver = Box::new(MemoryDriver::new(&MemoryStore::new(), name));
        let role = memory_role(name, port, RoleKind::Vlmcd(composer()));
        let peer = roles::blocker(
            &role,
            HashAlgorithm::Sha256,
            LOCK_TTL_S_DEFAULT,
            desk.clone(),
            driver,
            engine.reactor(),
        );
        engine.add(desk.clone(), Box::new(peer));
        desk.with_seat(|seat| seat.bind(port, port));
    }
    let maps = config::Mapperd {
        blockerb_port: PortNo(PORTS.blockerb),
        blockerm_port: PortNo(PORTS.blockerm),
        map_version: 2,
        hash_algorithm: HashAlgorithm::Sha256,
        lock_ttl_s: LOCK_TTL_S_DEFAULT,
    };
    for (name, port, kind) in [
        ("mapperd", PORTS.mapperd, RoleKind::Mapperd(maps)),
        ("vlmcd", PORTS.vlmcd, RoleKind::Vlmcd(composer())),
    ] {
        let role = memory_role(name, port, kind);
        let seat = local.peer_seat(name)?;
        seat_role(engine, &role, seat, &places, Purpose::Serve).map_err(io::Error::other)?;
    }
    Ok(())
}

fn composer() -> config::Vlmcd {
    config::Vlmcd {
        blocker_port: PortNo(PORTS.blockerb),
        mapper_port: PortNo(PORTS.mapperd),
        write_through: false,
        lock_ttl_s: LOCK_TTL_S_DEFAULT,
    }
}

fn memory_role(name: &str, port: u32, kind: RoleKind) -> Role {
    Role {
        name: name.into(),
        kind,
        ports: PortRange::single(PortNo(port)),
        nr_ops: NR_OPS,
        logfile: None,
        log_level: 0,
        threshold: THRESHOLD_DEFAULT,
        umask: 0o007,
        process: None,
        pidfile: None,
    }
}
