//! From options to a checked [`Role`].

use std::io;
use std::path::{Path, PathBuf, absolute};

use super::options::{Common, Filed, Mapperd, Poold, Radosd, Vlmcd};
use super::{Executable, Generic, PeerCommand};
use crate::error::Fault;
use crate::paths::default_run_dir;
use crate::ports::{PortNo, PortRange};
use crate::read::is_plain_name;
use crate::role::{self, Role, RoleKind};

impl TryFrom<Filed> for PeerCommand {
    type Error = String;

    fn try_from(options: Filed) -> Result<PeerCommand, String> {
        let nr_ops = options.common.nr_ops;
        let filed = role::FileBlocker {
            archip_dir: resolved(&options.archip)?,
            lock_dir: options.lockdir.as_deref().map(resolved).transpose()?,
            fdcache: options.fdcache.unwrap_or_else(|| nr_ops.saturating_mul(2)),
            direct: options.directio,
            pithos_migrate: options.pithos_migrate,
            unique_str: options.uniquestr,
            nr_threads: options.common.nr_threads,
            hash_algorithm: options.hash_algorithm,
            lock_ttl_s: options.lock_ttl,
        };
        command(options.common, RoleKind::FileBlocker(filed))
    }
}

impl TryFrom<Radosd> for PeerCommand {
    type Error = String;

    fn try_from(options: Radosd) -> Result<PeerCommand, String> {
        let radosd = role::RadosBlocker {
            pool: options.pool,
            cephx_id: options.cephx_id,
            ceph_conf: resolved(&options.ceph_conf)?,
            nr_threads: options.common.nr_threads,
            hash_algorithm: options.hash_algorithm,
            lock_ttl_s: options.lock_ttl,
        };
        command(options.common, RoleKind::RadosBlocker(radosd))
    }
}

impl TryFrom<Mapperd> for PeerCommand {
    type Error = String;

    fn try_from(options: Mapperd) -> Result<PeerCommand, String> {
        let mapperd = role::Mapperd {
            blockerb_port: PortNo(options.blockerb_port),
            blockerm_port: PortNo(options.blockerm_port),
            map_version: options.map_version,
            hash_algorithm: options.hash_algorithm,
            lock_ttl_s: options.lock_ttl,
        };
        command(options.common, RoleKind::Mapperd(mapperd))
    }
}

impl TryFrom<Vlmcd> for PeerCommand {
    type Error = String;

    fn try_from(options: Vlmcd) -> Result<PeerCommand, String> {
        let vlmcd = role::Vlmcd {
            blocker_port: PortNo(options.blockerb_port),
            mapper_port: PortNo(options.mapper_port),
            write_through: options.write_through,
            lock_ttl_s: options.lock_ttl,
        };
        command(options.common, RoleKind::Vlmcd(vlmcd))
    }
}

impl TryFrom<Poold> for PeerCommand {
    type Error = String;

    fn try_from(options: Poold) -> Result<PeerCommand, String> {
        let in_run_dir = |given: Option<PathBuf>, name| match given {
            Some(path) => resolved(&path),
            None => Ok(default_run_dir().join(name)),
        };
        let kind = RoleKind::Poold(role::Poold {
            socket_path: in_run_dir(options.socketpath, "poold.socket")?,
            logging_conf: options.logconfig.as_deref().map(resolved).transpose()?,
        });
        let role = Role {
            pidfile: Some(in_run_dir(options.pidfile, "poold.pid")?),
            umask: options.umask,
            ..Role::new(
                Executable::Poold.role_name(),
                kind,
                range(options.start, options.end)?,
            )
        };
        role.check().map_err(sentence)?;
        let (uid, gid) = (options.user, options.group);
        let generic = Generic {
            daemonize: options.daemonize,
            uid,
            gid,
            ..Generic::default()
        };
        Ok(PeerCommand { role, generic })
    }
}

/// The part that all peers but poold share.
fn command(options: Common, kind: RoleKind) -> Result<PeerCommand, String> {
    check_cpus(&options, &kind)?;
    let ports = ports(&options)?;
    let name = options
        .role
        .unwrap_or_else(|| Executable::of(&kind).role_name().into());
    if !is_plain_name(&name) {
        return Err(format!("`{}` is no name of a role", name.escape_debug()));
    }
    let role = Role {
        nr_ops: options.nr_ops,
        logfile: options.logfile.as_deref().map(resolved).transpose()?,
        log_level: options.log_level,
        threshold: options.threshold,
        umask: options.umask,
        pidfile: options.pidfile.as_deref().map(resolved).transpose()?,
        ..Role::new(name, kind, ports)
    };
    role.check().map_err(sentence)?;
    let generic = Generic {
        daemonize: options.daemonize,
        segment: Some(options.segment),
        uid: options.uid,
        gid: options.gid,
        cpus: options.cpus,
        blocking_port: options.blocking_port.map(PortNo),
        sandbox: options.sandbox,
    };
    Ok(PeerCommand { role, generic })
}

/// The range of ports, inside the static ports of the segment.
fn ports(options: &Common) -> Result<PortRange, String> {
    let ports = match (options.port, options.start_port, options.end_port) {
        (Some(port), _, _) => PortRange::single(PortNo(port)),
        (None, Some(start), Some(end)) => range(start, end)?,
        _ => return Err("the ports to bind are missing: give -p, or -sp and -ep".into()),
    };
    let dynports = options.segment.dynports;
    match ports.end().0 < dynports {
        true => Ok(ports),
        false => Err(format!(
            "port {} is not static: it must be below {dynports}",
            ports.end()
        )),
    }
}

fn range(start: u32, end: u32) -> Result<PortRange, String> {
    let range = PortRange::new(PortNo(start), PortNo(end));
    range.ok_or_else(|| format!("the port range ({start}, {end}) ends before it begins"))
}

fn check_cpus(options: &Common, kind: &RoleKind) -> Result<(), String> {
    let (given, threads) = (options.cpus.len(), threads(options, kind));
    match given == 0 || given == threads as usize {
        true => Ok(()),
        false => Err(format!(
            "--cpus names {given} processors for {threads} threads"
        )),
    }
}

fn threads(options: &Common, kind: &RoleKind) -> u32 {
    if kind.is_blocker() {
        options.nr_threads
    } else {
        1
    }
}

/// A fault with the key that it is about, as the file spells it.
fn sentence(fault: Fault) -> String {
    format!("{}: {}", fault.key, fault.message)
}

/// Made absolute here, because a peer changes its directory when it goes to the background.
fn resolved(path: &Path) -> Result<PathBuf, String> {
    absolute(path).map_err(|error: io::Error| format!("{}: {error}", path.display()))
}
