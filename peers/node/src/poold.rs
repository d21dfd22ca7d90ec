//! `archip-poold`: lends the numbers of static ports to clients, each to one connection at a time.
//!
//! - [`pool`]: which numbers are free, and who has the others;
//! - [`server`]: connections on a unix socket.
//!
//! The protocol is the original's (spec/cli.md section 4). A request is two big-endian u32, a code
//! and a port; its answer one i32 in the machine's order:
//!
//! | code | meaning | answer |
//! |---|---|---|
//! | 0 | lend me a port | its number; -1: there is none |
//! | 1 | I give this port back | 1; 0: you do not have it |
//! | 2 | I give all my ports back | 1 |
//!
//! The end of a connection gives everything back. poold touches no segment: whether the former
//! holder of a number is really gone is seen to where the port is bound.

mod pool;
mod server;

use crate::pidfile::PidFile;
use crate::process::{self, StartError};
use config::args::PeerCommand;
use config::{PortRange, Role, RoleKind};
use std::path::PathBuf;

/// What a poold is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The role: its ports, pid file, umask.
    pub role: Role,
    /// Where it listens.
    pub socket: PathBuf,
    /// User and group to become, where they are others.
    pub uid: Option<u32>,
    /// See `uid`.
    pub gid: Option<u32>,
}

impl Plan {
    /// From a command line. `None`: it is another role's.
    pub fn new(command: PeerCommand) -> Option<Plan> {
        let RoleKind::Poold(poold) = &command.role.kind else {
            return None;
        };
        Some(Plan {
            socket: poold.socket_path.clone(),
            uid: command.generic.uid,
            gid: command.generic.gid,
            role: command.role,
        })
    }

    fn ports(&self) -> PortRange {
        self.role.ports
    }
}

/// Runs it to its end.
pub fn run(plan: &Plan) -> Result<(), StartError> {
    process::become_user(plan.uid, plan.gid)?;
    let _pid_file = match &plan.role.pidfile {
        None => None,
        Some(path) => {
            let file = PidFile::create(path.clone());
            Some(file.map_err(process::failed("can't make the pid file"))?)
        }
    };
    let stop = process::stop_signals().map_err(process::failed("can't watch for signals"))?;
    let place = plan.socket.display();
    let server = server::Server::listen(&plan.socket, plan.role.umask, plan.ports(), stop)
        .map_err(process::failed(format!("can't listen at {place}")))?;
    process::say_ready();
    server.run().map_err(process::failed("it serves no more"))
}
