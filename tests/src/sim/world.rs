//! The node of a simulation: hosts, stores, kills and restarts.

use client::Ports;
use driver::{Detail, Driver, Faults, HashAlgorithm, MemoryDriver, MemoryStore, Op, OpId};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reactor::{Env, Executor, SimClock, Timers};
use runtime::{Desk, Host, LeaseTerm, Peer};
use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use xseg::join::Local;
use xseg::{Bells, RegionSpec, SeatNo};

/// Where the simulated peers serve.
pub const PORTS: Ports = Ports {
    blockerb: 0,
    blockerm: 1,
    mapperd: 2,
    vlmcd: 3,
};
const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];
const NR_OPS: usize = 32;

/// How the roles are spread over processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// All in one.
    OneProcess,
    /// Each in its own.
    ProcessPerRole,
}

/// Bells that nobody needs: in a simulation everybody gets turns.
struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _: SeatNo) {}
    fn descriptor(&self, _: SeatNo) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The randomness of a whole simulation.
pub type Dice = Rc<RefCell<ChaCha8Rng>>;

struct Process {
    roles: Vec<&'static str>,
    host: Option<Host>,
}

/// The node.
pub struct World {
    /// Where everything random comes from.
    pub dice: Dice,
    /// The table that clients sit at.
    pub local: Local,
    /// The objects of data.
    pub blocks: MemoryStore,
    /// The objects of maps.
    pub maps: MemoryStore,
    clock: Rc<SimClock>,
    env: Env,
    processes: Vec<Process>,
    /// How many processes were killed.
    pub kills: u32,
    stranger: Stranger,
}

/// Another node, as far as its locks go: it takes those that nobody has, and gives them back.
struct Stranger {
    driver: MemoryDriver,
    held: Vec<driver::Name>,
}

impl Stranger {
    fn new(maps: &MemoryStore) -> Stranger {
        Stranger {
            driver: MemoryDriver::new(maps, "stranger"),
            held: Vec::new(),
        }
    }

    fn ask(&mut self, op: Op) -> Option<Detail> {
        let mut done = Vec::new();
        self.driver.submit(OpId(0), op);
        self.driver.poll(&mut done);
        done.remove(0).result.ok().map(|reply| reply.detail)
    }

    fn release(&mut self, name: driver::Name) {
        self.held.retain(|held| *held != name);
        let op = Op::Release { name, force: false };
        self.ask(op).expect("it holds that lock");
    }

    fn act(&mut self, name: driver::Name) {
        if self.held.contains(&name) {
            return self.release(name);
        }
        // A lock of the dead is not its to take.
        let free = matches!(self.ask(Op::LockInfo { name }),
            Some(Detail::Lock(lock)) if lock.holder.is_none());
        if free && self.ask(Op::Acquire { name }).is_some() {
            self.held.push(name);
        }
    }
}

impl World {
    /// A node that serves, all of it from `seed`.
    pub fn new(seed: u64, shape: Shape) -> World {
        let (env, clock) = Env::simulated(seed);
        clock.advance(1_000_000_000);
        let local = Local::with_bells(RegionSpec::public(64, 32, 64), Arc::new(NoBells))
            .expect("a small segment");
        let groups: Vec<Vec<&str>> = match shape {
            Shape::OneProcess => vec![ROLES.to_vec()],
            Shape::ProcessPerRole => ROLES.iter().map(|r| vec![*r]).collect(),
        };
        let maps = MemoryStore::new();
        let mut world = World {
            dice: Rc::new(RefCell::new(ChaCha8Rng::seed_from_u64(seed))),
            local,
            blocks: MemoryStore::new(),
            stranger: Stranger::new(&maps),
            maps,
            clock,
            env,
            processes: groups
                .into_iter()
                .map(|roles| Process { roles, host: None })
                .collect(),
            kills: 0,
        };
        for at in 0..world.processes.len() {
            world.start(at);
        }
        world
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.dice.borrow_mut().random_range(0..end.max(1))
    }

    fn start(&mut self, at: usize) {
        let executor = Executor::new();
        let timers = Timers::new();
        let mut host = Host::new(self.env.clone(), executor.clone(), timers.clone());
        for role in self.processes[at].roles.clone() {
            let desk = Desk::new(self.local.peer_seat(role).expect("a seat"));
            let peer = self.peer(role, desk.clone(), &executor, &timers);
            host.add(desk.clone(), peer);
            let port = match role {
                "blockerb" => PORTS.blockerb,
                "blockerm" => PORTS.blockerm,
                "mapperd" => PORTS.mapperd,
                _ => PORTS.vlmcd,
            };
            assert!(desk.with_seat(|seat| seat.bind(port, port)));
        }
        self.processes[at].host = Some(host);
    }

    fn peer(&self, role: &str, desk: Desk, executor: &Executor, timers: &Timers) -> Box<dyn Peer> {
        let store = match role {
            "blockerb" => &self.blocks,
            "blockerm" => &self.maps,
            "mapperd" => {
                let config = mapperd::Config {
                    nr_ops: NR_OPS,
                    blockerm_port: PORTS.blockerm,
                    blockerb_port: PORTS.blockerb,
                    map_version: 2,
                    lease_term: LeaseTerm::DEFAULT,
                };
                return Box::new(mapperd::Mapperd::new(
                    config,
                    desk,
                    executor.clone(),
                    timers.clone(),
                    self.env.clone(),
                ));
            }
            _ => {
                let settings = vlmcd::Settings {
                    mapper_port: PORTS.mapperd,
                    blocker_port: PORTS.blockerb,
                    nr_ops: NR_OPS,
                    write_through: false,
                    lease_term: LeaseTerm::DEFAULT,
                };
                return Box::new(vlmcd::Vlmcd::new(settings, desk, self.env.clone()));
            }
        };
        // What a dead predecessor left in the kernel lands before its successor does anything.
        store.drain();
        let dice = self.dice.clone();
        let faults = Faults {
            choose: Rc::new(move || dice.borrow_mut().next_u64()),
            delay: 160,
            fail: Rc::new(|_| None),
        };
        let driver = Box::new(MemoryDriver::with_faults(store, role, faults));
        let settings = blocker::Settings {
            role: role.into(),
            nr_ops: NR_OPS,
            hash_algorithm: HashAlgorithm::Sha256,
            lease_term: LeaseTerm::DEFAULT,
        };
        let (timers, executor) = (timers.clone(), executor.clone());
        Box::new(blocker::Blocker::new(
            settings,
            desk,
            driver,
            self.env.clone(),
            timers,
            executor,
        ))
    }

    /// Kills a process chosen by the dice; it is restarted some steps later.
    pub fn kill_one(&mut self) {
        let at = self.below(self.processes.len() as u64) as usize;
        if let Some(host) = self.processes[at].host.take() {
            host.kill();
            self.kills += 1;
        }
    }

    /// One thing happens: somebody's turn, a late landing, a restart; and time passes.
    pub fn step(&mut self) {
        self.clock.advance(1 + self.below(200_000));
        let at = self.below(self.processes.len() as u64) as usize;
        if self.processes[at].host.is_none() {
            match self.below(20) {
                0 => self.start(at),
                _ => self.land_late(),
            }
            return;
        }
        if let Some(host) = &mut self.processes[at].host {
            host.turn();
        }
    }

    fn land_late(&self) {
        let dice = self.dice.clone();
        let choose = move || dice.borrow_mut().next_u64();
        self.blocks.step(&choose);
        self.maps.step(&choose);
    }

    /// Another node takes the lock of a volume that nobody has open, or gives it back.
    pub fn stranger_acts(&mut self, volume: &str) {
        self.stranger
            .act(driver::Name::try_from(volume).expect("a short name"));
    }

    /// Brings every process up again, and lets nobody else hold a lock.
    pub fn heal(&mut self) {
        for name in self.stranger.held.clone() {
            self.stranger.release(name);
        }
        for at in 0..self.processes.len() {
            if self.processes[at].host.is_none() {
                self.start(at);
            }
        }
    }
}
