//! From a [`Role`] to the command line that starts it, in the original's order.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use super::Generic;
use crate::paths::CEPH_CONF;
use crate::role::{
    FileBlocker, HashAlgorithm, LOCK_TTL_S_DEFAULT, MAP_VERSION, PREFIX, Poold, RadosBlocker, Role,
    RoleKind, THRESHOLD_DEFAULT,
};

/// The arguments of the role's executable, without `argv[0]`.
///
/// The owner's default is written out, as the original did, so that it is read back as a
/// `unique_str` of its own.
pub fn command_line(role: &Role, generic: &Generic) -> Vec<OsString> {
    let mut line = Line::default();
    if let RoleKind::Poold(poold) = &role.kind {
        poold_options(&mut line, role, poold, generic);
        return line.0;
    }
    generic_options(&mut line, role, generic);
    match &role.kind {
        RoleKind::FileBlocker(filed) => filed_options(&mut line, role, filed),
        RoleKind::RadosBlocker(radosd) => radosd_options(&mut line, radosd),
        RoleKind::Mapperd(mapperd) => {
            line.value("-mbp", mapperd.blockerm_port);
            line.value("-bp", mapperd.blockerb_port);
            line.unless_default("--map-version", mapperd.map_version, MAP_VERSION);
            blocker_options(&mut line, mapperd.hash_algorithm, mapperd.lock_ttl_s);
        }
        RoleKind::Vlmcd(vlmcd) => {
            line.value("-bp", vlmcd.blocker_port);
            line.value("-mp", vlmcd.mapper_port);
            line.flag("--write-through", vlmcd.write_through);
            ttl_option(&mut line, vlmcd.lock_ttl_s);
        }
        RoleKind::Poold(_) => {}
    }
    line.0
}

fn generic_options(line: &mut Line, role: &Role, generic: &Generic) {
    line.flag("-d", generic.daemonize);
    line.value("-n", role.nr_ops);
    line.path("-l", role.logfile.as_deref());
    line.path("--pidfile", role.pidfile.as_deref());
    line.value("-sp", role.ports.start());
    line.value("-ep", role.ports.end());
    line.value("-v", role.log_level);
    line.optional("-g", generic.segment.as_ref());
    line.unless_default("--threshold", role.threshold, THRESHOLD_DEFAULT);
    line.optional("-uid", generic.uid);
    line.optional("-gid", generic.gid);
    line.value("--umask", role.umask);
    line.value("-r", &role.name);
    if !generic.cpus.is_empty() {
        let cpus: Vec<String> = generic.cpus.iter().map(usize::to_string).collect();
        line.value("--cpus", cpus.join(","));
    }
    line.optional("-dp", generic.blocking_port);
    line.flag("--sandbox", generic.sandbox);
}

fn filed_options(line: &mut Line, role: &Role, filed: &FileBlocker) {
    line.value("-t", filed.nr_threads);
    line.equals("--uniquestr", &role.owner());
    line.value("--fdcache", filed.fdcache);
    line.path("--archip", Some(&filed.archip_dir));
    line.value("--prefix", PREFIX);
    line.flag("--directio", filed.direct);
    line.flag("--pithos-migrate", filed.pithos_migrate);
    line.path("--lockdir", filed.lock_dir.as_deref());
    blocker_options(line, filed.hash_algorithm, filed.lock_ttl_s);
}

fn radosd_options(line: &mut Line, radosd: &RadosBlocker) {
    line.value("-t", radosd.nr_threads);
    line.equals("--pool", &radosd.pool);
    if let Some(id) = &radosd.cephx_id {
        line.equals("--cephx-id", id);
    }
    if radosd.ceph_conf != Path::new(CEPH_CONF) {
        line.path("--ceph-conf", Some(&radosd.ceph_conf));
    }
    blocker_options(line, radosd.hash_algorithm, radosd.lock_ttl_s);
}

fn hash_option(line: &mut Line, hash: HashAlgorithm) {
    if hash != HashAlgorithm::default() {
        line.value("--hash-algorithm", hash.as_str());
    }
}

fn ttl_option(line: &mut Line, lock_ttl_s: u32) {
    line.unless_default("--lock-ttl", lock_ttl_s, LOCK_TTL_S_DEFAULT);
}

/// What the blockers say to mapperd too.
fn blocker_options(line: &mut Line, hash: HashAlgorithm, lock_ttl_s: u32) {
    hash_option(line, hash);
    ttl_option(line, lock_ttl_s);
}

fn poold_options(line: &mut Line, role: &Role, poold: &Poold, generic: &Generic) {
    line.flag("-d", generic.daemonize);
    line.path("-c", poold.logging_conf.as_deref());
    line.path("-i", role.pidfile.as_deref());
    line.value("-s", role.ports.start());
    line.value("-e", role.ports.end());
    line.optional("-u", generic.uid);
    line.optional("-g", generic.gid);
    line.value("-m", role.umask);
    line.path("-p", Some(&poold.socket_path));
}

/// A command line that grows.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, option: &str, set: bool) {
        if set {
            self.0.push(option.into());
        }
    }

    fn value(&mut self, option: &str, value: impl Display) {
        self.0.extend([option.into(), value.to_string().into()]);
    }

    fn optional(&mut self, option: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(option, value);
        }
    }

    fn unless_default(&mut self, option: &str, value: u32, default: u32) {
        self.optional(option, (value != default).then_some(value));
    }

    fn path(&mut self, option: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.0.extend([option.into(), path.into()]);
        }
    }

    /// Free text: as one word where it could be taken for an option.
    fn equals(&mut self, option: &str, text: &str) {
        match text.starts_with('-') || text.is_empty() {
            true => self.0.push(format!("{option}={text}").into()),
            false => self.value(option, text),
        }
    }
}
