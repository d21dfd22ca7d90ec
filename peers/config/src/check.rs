//! What roles must agree on. The original checked none of it, and failed later and silently:
//! a static port at or above dynports became *some other* port, and a wrong port number sent
//! requests to nobody (`spec/cli.md` section 3, `spec/protocol.md` B27).

use crate::error::{ConfigError, ErrorKind};
use crate::ini::Ini;
use crate::node::NodeConfig;
use crate::ports::PortNo;
use crate::role::{Role, RoleKind};

/// Checks each role of `config` against the segment and the other roles.
pub(crate) fn relations(ini: &Ini, config: &NodeConfig) -> Result<(), ConfigError> {
    for role in &config.roles {
        static_ports(ini, config, role)?;
        references(ini, config, role)?;
        process_name(ini, config, role)?;
        same_hash(ini, config, role)?;
        same_lease(ini, config, role)?;
    }
    Ok(())
}

fn static_ports(ini: &Ini, config: &NodeConfig, role: &Role) -> Result<(), ConfigError> {
    let (end, dynports) = (role.ports.end(), config.xseg.segment.dynports);
    if end.0 < dynports {
        return Ok(());
    }
    let message =
        format!("port {end} is not static: it must be below SEGMENT_DYNPORTS ({dynports})");
    Err(ConfigError::new(
        ErrorKind::OutOfRange,
        ini.place(&role.name, "portno_end"),
        message,
    ))
}

/// What a port must belong to: how we call it, and how to tell.
type Wanted = (&'static str, fn(&RoleKind) -> bool);
const BLOCKER: Wanted = ("blocker", RoleKind::is_blocker);
const MAPPERD: Wanted = ("mapperd", |kind| matches!(kind, RoleKind::Mapperd(_)));

fn references(ini: &Ini, config: &NodeConfig, role: &Role) -> Result<(), ConfigError> {
    let references = match &role.kind {
        RoleKind::Mapperd(mapperd) => [
            ("blockerb_port", mapperd.blockerb_port, BLOCKER),
            ("blockerm_port", mapperd.blockerm_port, BLOCKER),
        ],
        RoleKind::Vlmcd(vlmcd) => [
            ("blocker_port", vlmcd.blocker_port, BLOCKER),
            ("mapper_port", vlmcd.mapper_port, MAPPERD),
        ],
        _ => return Ok(()),
    };
    for (key, port, wanted) in references {
        belongs(config, port, wanted).map_err(|message| {
            let place = ini.place(&role.name, key);
            ConfigError::new(ErrorKind::DanglingReference, place, message)
        })?;
    }
    Ok(())
}

fn belongs(config: &NodeConfig, port: PortNo, wanted: Wanted) -> Result<(), String> {
    let (word, matches) = wanted;
    match config.roles.iter().find(|other| other.ports.contains(port)) {
        Some(holder) if matches(&holder.kind) => Ok(()),
        Some(holder) => {
            let (name, kind) = (&holder.name, holder.kind.type_name());
            Err(format!(
                "port {port} belongs to {name}, a {kind}, and not to a {word}"
            ))
        }
        None => Err(format!(
            "port {port} belongs to no role, but must be that of a {word}"
        )),
    }
}

/// A shared process must not be called like a role outside it: both would be shown by that name.
fn process_name(ini: &Ini, config: &NodeConfig, role: &Role) -> Result<(), ConfigError> {
    let Some(process) = &role.process else {
        return Ok(());
    };
    let outsider = config
        .role(process)
        .filter(|other| other.process.as_ref() != Some(process));
    let Some(outsider) = outsider else {
        return Ok(());
    };
    let message = format!(
        "{} is a role of its own; it needs `process = {process}` too",
        outsider.name
    );
    Err(ConfigError::new(
        ErrorKind::Conflict,
        ini.place(&role.name, "process"),
        message,
    ))
}

/// HASH names maps by content: two blockers that disagree would name one content twice.
fn same_hash(ini: &Ini, config: &NodeConfig, role: &Role) -> Result<(), ConfigError> {
    same(
        ini,
        config,
        role,
        "hash_algorithm",
        RoleKind::hash_algorithm,
    )
}

/// One lease is checked by all: a blocker with a shorter one would refuse what vlmcd thinks good.
fn same_lease(ini: &Ini, config: &NodeConfig, role: &Role) -> Result<(), ConfigError> {
    same(ini, config, role, "lock_ttl", RoleKind::lock_ttl_s)
}

/// All blockers must have the same `key`.
fn same<T: PartialEq>(
    ini: &Ini,
    config: &NodeConfig,
    role: &Role,
    key: &str,
    of: fn(&RoleKind) -> Option<T>,
) -> Result<(), ConfigError> {
    let Some(ours) = of(&role.kind) else {
        return Ok(());
    };
    let differs = |other: &&Role| of(&other.kind).is_some_and(|theirs| theirs != ours);
    let Some(other) = config.roles.iter().find(differs) else {
        return Ok(());
    };
    let message = format!(
        "{} has another {key}; all blockers need the same",
        other.name
    );
    let place = ini.place(&role.name, key);
    Err(ConfigError::new(ErrorKind::Conflict, place, message))
}
