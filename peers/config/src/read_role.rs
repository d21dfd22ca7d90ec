//! From INI to types: one role's section.

use std::path::{Path, PathBuf};

use crate::error::{ConfigError, ErrorKind, Warning};
use crate::ini::Ini;
use crate::node::Archipelago;
use crate::paths;
use crate::read::{Ports, Section};
use crate::role::{
    FileBlocker, HashAlgorithm, LOCK_TTL_S_DEFAULT, MAP_VERSION, Mapperd, NR_OPS_DEFAULT, PREFIX,
    Poold, RadosBlocker, Role, RoleKind, THRESHOLD_DEFAULT, UMASK_DEFAULT, Vlmcd,
};

/// Reads the section of the role `name`; what is odd in it joins `warnings`.
pub(crate) fn role(
    ini: &Ini,
    name: &str,
    node: &Archipelago,
    ports: &mut Ports,
    warnings: &mut Vec<Warning>,
) -> Result<Role, ConfigError> {
    let section = Section::open(ini, name).map_err(|error| {
        let message = format!("No config found for {name}");
        ConfigError::new(ErrorKind::MissingSection, error.place().clone(), message)
    })?;
    let type_name = section.need("type", section.text("type"))?;
    let kind = kind(&section, type_name, node)?;
    let role = generic(&section, kind, node, ports)?;
    if section
        .text("prefix")
        .is_some_and(|prefix| prefix != PREFIX)
    {
        warnings.push(section.warning("prefix", format!("ignored: it is always `{PREFIX}`")));
    }
    warnings.extend(section.unknown_keys());
    Ok(role)
}

fn kind(
    section: &Section<'_>,
    type_name: &str,
    node: &Archipelago,
) -> Result<RoleKind, ConfigError> {
    Ok(match type_name {
        "file_blocker" => RoleKind::FileBlocker(file_blocker(section)?),
        "rados_blocker" => RoleKind::RadosBlocker(rados_blocker(section)?),
        "mapperd" => RoleKind::Mapperd(mapperd(section)?),
        "vlmcd" => RoleKind::Vlmcd(vlmcd(section)?),
        "poold" => RoleKind::Poold(poold(section, &node.run_dir)),
        other => {
            let message = format!("{} is not a valid role", other.escape_debug());
            return Err(section.error(ErrorKind::UnknownType, "type", message));
        }
    })
}

/// What all kinds have; checks the role before its ports, as the original did.
fn generic(
    section: &Section<'_>,
    kind: RoleKind,
    node: &Archipelago,
    ports: &mut Ports,
) -> Result<Role, ConfigError> {
    let name = section.name;
    let (nr_ops, umask) = (nr_ops(section, &kind)?, section.literal("umask")?);
    let logfile = section
        .path("logfile")
        .unwrap_or_else(|| node.log_dir.join(format!("{name}.log")));
    check_log_dir(section, &logfile)?;
    let own_pidfile = matches!(kind, RoleKind::Poold(_))
        .then(|| section.path("pidfile"))
        .flatten();
    // The ports come last in the order of checks; until then the range is a stand-in.
    let stand_in = crate::PortRange::single(crate::PortNo(0));
    let mut role = Role {
        nr_ops,
        logfile: Some(logfile),
        log_level: section.int("log_level")?.unwrap_or(0),
        threshold: section.int("threshold")?.unwrap_or(THRESHOLD_DEFAULT),
        umask: umask.filter(|umask| *umask != 0).unwrap_or(UMASK_DEFAULT),
        process: section.plain_name("process")?.map(str::to_owned),
        pidfile: Some(own_pidfile.unwrap_or_else(|| node.run_dir.join(format!("{name}.pid")))),
        ..Role::new(name, kind, stand_in)
    };
    role.check().map_err(|fault| section.fault(fault))?;
    role.ports = ports.read(section, "portno_start", "portno_end")?;
    Ok(role)
}

fn nr_ops(section: &Section<'_>, kind: &RoleKind) -> Result<u32, ConfigError> {
    let given = section.int("nr_ops")?;
    match kind {
        RoleKind::Poold(_) => Ok(given.unwrap_or(NR_OPS_DEFAULT)),
        _ => section.need("nr_ops", given),
    }
}

fn check_log_dir(section: &Section<'_>, logfile: &Path) -> Result<(), ConfigError> {
    let directory = logfile.parent().unwrap_or(Path::new("/"));
    if directory.is_dir() {
        return Ok(());
    }
    let message = format!(
        "no directory {} for the log {}; LOG_DIR and logfile say where it goes",
        directory.display(),
        logfile.display()
    );
    Err(section.error(ErrorKind::NotFound, "logfile", message))
}

fn file_blocker(section: &Section<'_>) -> Result<FileBlocker, ConfigError> {
    // Read here for the default of fdcache; `generic` says when it is missing.
    let nr_ops: u32 = section.int("nr_ops")?.unwrap_or(NR_OPS_DEFAULT);
    section.int::<u32>("nr_threads")?;
    Ok(FileBlocker {
        archip_dir: section.need("archip_dir", section.path("archip_dir"))?,
        lock_dir: section.path("lock_dir"),
        fdcache: section
            .int("fdcache")?
            .unwrap_or_else(|| nr_ops.saturating_mul(2)),
        direct: section.boolean("direct")?.unwrap_or(true),
        pithos_migrate: section.boolean("pithos_migrate")?.unwrap_or(false),
        unique_str: section.text("unique_str").map(str::to_owned),
        nr_threads: nr_ops,
        hash_algorithm: hash_algorithm(section)?,
        lock_ttl_s: section.int("lock_ttl")?.unwrap_or(LOCK_TTL_S_DEFAULT),
    })
}

fn rados_blocker(section: &Section<'_>) -> Result<RadosBlocker, ConfigError> {
    let ceph_conf = section.path("ceph_conf");
    Ok(RadosBlocker {
        pool: section.need("pool", section.text("pool"))?.to_owned(),
        cephx_id: section.text("cephx_id").map(str::to_owned),
        ceph_conf: ceph_conf.unwrap_or_else(|| PathBuf::from(paths::CEPH_CONF)),
        nr_threads: section.int("nr_threads")?.unwrap_or(1),
        hash_algorithm: hash_algorithm(section)?,
        lock_ttl_s: section.int("lock_ttl")?.unwrap_or(LOCK_TTL_S_DEFAULT),
    })
}

fn hash_algorithm(section: &Section<'_>) -> Result<HashAlgorithm, ConfigError> {
    let word = section.word("hash_algorithm", &HashAlgorithm::ALL, HashAlgorithm::as_str)?;
    Ok(word.unwrap_or_default())
}

fn mapperd(section: &Section<'_>) -> Result<Mapperd, ConfigError> {
    Ok(Mapperd {
        blockerb_port: section.port("blockerb_port")?,
        blockerm_port: section.port("blockerm_port")?,
        map_version: section.int("map_version")?.unwrap_or(MAP_VERSION),
        // Its own section says nothing of it; the blockers' do, and are read besides.
        hash_algorithm: HashAlgorithm::default(),
        lock_ttl_s: LOCK_TTL_S_DEFAULT,
    })
}

fn vlmcd(section: &Section<'_>) -> Result<Vlmcd, ConfigError> {
    Ok(Vlmcd {
        blocker_port: section.port("blocker_port")?,
        mapper_port: section.port("mapper_port")?,
        write_through: section.boolean("write_through")?.unwrap_or(false),
        // As for mapperd.
        lock_ttl_s: LOCK_TTL_S_DEFAULT,
    })
}

fn poold(section: &Section<'_>, run_dir: &Path) -> Poold {
    let socket_path = section.path("socket_path");
    Poold {
        socket_path: socket_path.unwrap_or_else(|| run_dir.join("poold.socket")),
        logging_conf: section.path("logging_conf"),
    }
}
